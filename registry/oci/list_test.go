package oci

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pages follows Link headers from path to the last page. Links are relative to the host.
func (f *fixture) pages(path string, each func(body []byte) int) (lengths []int) {
	f.t.Helper()
	for path != "" {
		got := f.do(http.StatusOK, "GET", path, nil)
		lengths = append(lengths, each(got.body))
		link := got.Header.Get("Link")
		path, _, _ = strings.Cut(strings.TrimPrefix(link, "<"), `>; rel="next"`)
		if link != "" && !strings.HasPrefix(path, "/v2/") || len(lengths) > 50 {
			f.t.Fatalf("Link: %s after %v", link, lengths)
		}
	}
	return lengths
}

func TestTags(t *testing.T) {
	f := newFixture(t, nil)
	body := f.image("a/b", ocispec.MediaTypeImageManifest, 1)
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprintf("v%d", i))
		f.putManifest("/v2/a/b/manifests/"+want[i], ocispec.MediaTypeImageManifest, body)
	}
	for query, lengths := range map[string][]int{
		"": {7}, "?n=3": {3, 3, 1}, "?n=7": {7}, "?n=0": {0}, "?n=100000": {7}, "?n=99999999999999999999": {7}, "?n=2&last=v3": {2, 1}, "?last=v5": {1}, "?last=z": {0},
	} {
		var got []string
		seen := f.pages("/v2/a/b/tags/list"+query, func(body []byte) int {
			var list struct {
				Name string
				Tags []string
			}
			if err := json.Unmarshal(body, &list); err != nil || list.Name != "a/b" || list.Tags == nil {
				t.Errorf("%s: %s (%v)", query, body, err)
			}
			got = append(got, list.Tags...)
			return len(list.Tags)
		})
		if !slices.Equal(seen, lengths) || len(got) > 0 && !slices.Equal(got, want[len(want)-len(got):]) && query != "" {
			t.Errorf("%q: pages of %v, want %v; %v", query, seen, lengths, got)
		}
	}
	for _, query := range []string{"", "?n=0", "?n=5", "?last=x"} {
		if got := f.do(http.StatusNotFound, "GET", "/v2/nowhere/tags/list"+query, nil); got.code(t) != codeNameUnknown {
			t.Errorf("%q: %s", query, got.body)
		}
	}
	for _, n := range []string{"-1", "x", "1.5", "%2B1", "+1", "1%202", "-99999999999999999999"} {
		f.do(http.StatusBadRequest, "GET", "/v2/a/b/tags/list?n="+n, nil).code(t)
	}
	if head := f.do(http.StatusOK, "HEAD", "/v2/a/b/tags/list", nil); len(head.body) > 0 {
		t.Error("HEAD has a body")
	}
}

// Tags are in byte order, and "last" need not exist.
func TestTags_order(t *testing.T) {
	f := newFixture(t, nil)
	body := f.image("a", ocispec.MediaTypeImageManifest, 1)
	want := []string{"1.0", "10", "2", "A", "Z", "_x", "a", "a-b", "a.b", "aB", "b"}
	for _, tag := range []string{"b", "Z", "a.b", "1.0", "aB", "_x", "2", "a", "10", "A", "a-b"} {
		f.putManifest("/v2/a/manifests/"+tag, ocispec.MediaTypeImageManifest, body)
	}
	for query, after := range map[string]int{"n=3": 0, "n=1&last=2": 3, "n=2&last=M": 4, "n=100&last=a-": 7, "last=zzz&n=1": len(want), "last=%2F": 0} {
		var got []string
		f.pages("/v2/a/tags/list?"+query, func(body []byte) int {
			var list struct{ Tags []string }
			if err := json.Unmarshal(body, &list); err != nil {
				t.Error(err)
			}
			got = append(got, list.Tags...)
			return len(list.Tags)
		})
		if !slices.Equal(got, want[after:]) {
			t.Errorf("%s: %v, want %v", query, got, want[after:])
		}
	}
}

// A + in a query is a space, which no media type has, so clients need not escape it.
func TestReferrers_artifactTypeWithAPlus(t *testing.T) {
	f := newFixture(t, nil)
	_, subject := f.pushImage("a", "latest", 1)
	f.pushBlob("a", []byte("{}"))
	for _, artifactType := range []string{"application/spdx+json", "application/spdx", "application/cyclonedx+json"} {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"manifests":[],"subject":{"mediaType":"a/b","digest":%q,"size":3}}`,
			ocispec.MediaTypeImageIndex, artifactType, subject)
		f.putManifest("/v2/a/manifests/"+digest.FromBytes(body).String(), ocispec.MediaTypeImageIndex, body)
		body = append(body, '\n')
		f.putManifest("/v2/a/manifests/"+digest.FromBytes(body).String(), ocispec.MediaTypeImageIndex, body)
	}
	for _, query := range []string{"artifactType=application/spdx+json&n=1", "n=1&artifactType=application%2Fspdx%2Bjson"} {
		first := f.do(http.StatusOK, "GET", "/v2/a/referrers/"+subject.String()+"?"+query, nil)
		first.wantHeader(t, "OCI-Filters-Applied", "artifactType")
		var types []string
		f.pages("/v2/a/referrers/"+subject.String()+"?"+query, func(body []byte) int {
			var index ocispec.Index
			if err := json.Unmarshal(body, &index); err != nil {
				t.Error(err)
			}
			for _, m := range index.Manifests {
				types = append(types, m.ArtifactType)
			}
			return len(index.Manifests)
		})
		if !slices.Equal(types, []string{"application/spdx+json", "application/spdx+json"}) {
			t.Errorf("%s: %v", query, types)
		}
	}
}

// A repository without tags, but with manifests, has an empty list: not null, not 404.
func TestTags_noneLeft(t *testing.T) {
	f := newFixture(t, nil)
	f.pushImage("a", "only", 1)
	f.do(http.StatusAccepted, "DELETE", "/v2/a/manifests/only", nil)
	if got := f.do(http.StatusOK, "GET", "/v2/a/tags/list", nil); strings.TrimSpace(string(got.body)) != `{"name":"a","tags":[]}` {
		t.Errorf("%s", got.body)
	}
}

func TestCatalog(t *testing.T) {
	f := newFixture(t, nil)
	if got := f.do(http.StatusOK, "GET", "/v2/_catalog", nil); strings.TrimSpace(string(got.body)) != `{"repositories":[]}` {
		t.Errorf("empty registry: %s", got.body)
	}
	want := []string{"a", "a/b", "b", "quay.io/x/y/z"}
	for i, repo := range want {
		f.pushImage(repo, "latest", uint64(i))
	}
	for query, lengths := range map[string][]int{"": {4}, "?n=3": {3, 1}, "?n=4": {4}, "?n=0": {0}, "?n=2&last=a": {2, 1}, "?n=1000000": {4}} {
		var got []string
		seen := f.pages("/v2/_catalog"+query, func(body []byte) int {
			var list struct{ Repositories []string }
			if err := json.Unmarshal(body, &list); err != nil {
				t.Error(err)
			}
			got = append(got, list.Repositories...)
			return len(list.Repositories)
		})
		if !slices.Equal(seen, lengths) || !slices.Equal(got, want[len(want)-len(got):]) {
			if query != "?n=0" || len(got) > 0 {
				t.Errorf("%q: pages of %v: %v", query, seen, got)
			}
		}
	}
	for _, n := range []string{"-1", "x"} {
		f.do(http.StatusBadRequest, "GET", "/v2/_catalog?n="+n, nil).code(t)
	}
}

func TestReferrers(t *testing.T) {
	f := newFixture(t, nil)
	_, subject := f.pushImage("a", "latest", 1)
	empty := f.pushBlob("a", []byte("{}"))
	refer := func(repo, artifactType string, i int) digest.Digest {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"artifactType":%q,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[],"subject":{"mediaType":%[1]q,"digest":%[4]q,"size":3},"annotations":{"i":"%[5]d"}}`,
			ocispec.MediaTypeImageManifest, artifactType, empty.Digest, subject, i)
		d := digest.FromBytes(body)
		put := f.putManifest("/v2/"+repo+"/manifests/"+d.String(), ocispec.MediaTypeImageManifest, body)
		put.wantHeader(t, "OCI-Subject", subject.String())
		return d
	}
	var all, boms []digest.Digest
	for i := range 3 {
		boms = append(boms, refer("a", "application/vnd.example.sbom", i))
		all = append(all, boms[i], refer("a", "application/vnd.example.signature", i))
	}
	slices.Sort(all)
	slices.Sort(boms)
	f.pushBlob("b", []byte("{}"))
	refer("b", "application/vnd.example.sbom", 9) // in another repository

	list := func(query string) (digests []digest.Digest, lengths []int) {
		lengths = f.pages("/v2/a/referrers/"+subject.String()+query, func(body []byte) int {
			var index ocispec.Index
			if err := json.Unmarshal(body, &index); err != nil || index.SchemaVersion != 2 || index.MediaType != ocispec.MediaTypeImageIndex || index.Manifests == nil {
				t.Errorf("%s (%v)", body, err)
			}
			for _, m := range index.Manifests {
				digests = append(digests, m.Digest)
				if m.ArtifactType == "" || m.Annotations["i"] == "" || m.MediaType != ocispec.MediaTypeImageManifest || m.Size == 0 {
					t.Errorf("descriptor %+v", m)
				}
			}
			return len(index.Manifests)
		})
		return digests, lengths
	}
	for query, want := range map[string]struct {
		digests []digest.Digest
		lengths []int
	}{
		"":     {all, []int{6}},
		"?n=4": {all, []int{4, 2}},
		"?artifactType=application/vnd.example.sbom":     {boms, []int{3}},
		"?artifactType=application/vnd.example.sbom&n=2": {boms, []int{2, 1}},
		"?artifactType=no/such":                          {nil, []int{0}},
		"?last=" + string(all[3]):                        {all[4:], []int{2}},
	} {
		if got, lengths := list(query); !slices.Equal(got, want.digests) || !slices.Equal(lengths, want.lengths) {
			t.Errorf("%q: %v in pages of %v", query, got, lengths)
		}
	}
	filtered := f.do(http.StatusOK, "GET", "/v2/a/referrers/"+subject.String()+"?artifactType=x/y", nil)
	filtered.wantHeader(t, "OCI-Filters-Applied", "artifactType")
	filtered.wantHeader(t, "Content-Type", ocispec.MediaTypeImageIndex)
	f.do(http.StatusOK, "GET", "/v2/a/referrers/"+subject.String(), nil).wantHeader(t, "OCI-Filters-Applied", "")

	for _, path := range []string{"/v2/nowhere/referrers/" + d256, "/v2/a/referrers/" + d512} {
		if got := f.do(http.StatusOK, "GET", path, nil); !strings.Contains(string(got.body), `"manifests":[]`) {
			t.Errorf("%s: %s", path, got.body)
		}
	}
	f.do(http.StatusBadRequest, "GET", "/v2/a/referrers/sha256:x", nil).code(t)
	for _, n := range []string{"0", "-1", "x"} {
		f.do(http.StatusBadRequest, "GET", "/v2/a/referrers/"+d256+"?n="+n, nil).code(t)
	}
}

// Referrers repeat the annotations of their manifests, which may be 4 MiB each.
func TestReferrers_bounded(t *testing.T) {
	f := newFixture(t, nil)
	f.pushBlob("a", []byte("{}"))
	var want []digest.Digest
	for i := range 4 {
		body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"manifests":[],"subject":{"mediaType":"a/b","digest":%q,"size":3},"annotations":{"i":"%d","long":%q}}`,
			ocispec.MediaTypeImageIndex, d256, i, strings.Repeat("x", 3<<19))
		want = append(want, digest.FromBytes(body))
		f.putManifest("/v2/a/manifests/"+want[i].String(), ocispec.MediaTypeImageIndex, body)
	}
	slices.Sort(want)
	var got []digest.Digest
	lengths := f.pages("/v2/a/referrers/"+d256, func(body []byte) int {
		var index ocispec.Index
		if err := json.Unmarshal(body, &index); err != nil || len(body) > 4<<20 {
			t.Errorf("an answer of %d bytes (%v)", len(body), err)
		}
		for _, m := range index.Manifests {
			got = append(got, m.Digest)
		}
		return len(index.Manifests)
	})
	if !slices.Equal(got, want) || !slices.Equal(lengths, []int{2, 2}) {
		t.Errorf("%v in pages of %v, want %v", got, lengths, want)
	}
}
