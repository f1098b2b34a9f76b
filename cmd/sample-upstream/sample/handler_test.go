package sample_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

func TestHandler(t *testing.T) {
	c := upstream(t)
	m, _ := c.Manifest("samples/oci", "v1")
	var img ocispec.Manifest
	if err := json.Unmarshal(m.Body, &img); err != nil {
		t.Fatal(err)
	}
	blob := img.Layers[0]
	whole, _ := c.Blob("samples/oci", blob.Digest)

	for _, tc := range []struct {
		name, method, path, rang string
		status                   int
		body                     string
		header                   map[string]string
	}{
		{name: "version check", method: "GET", path: "/v2/", status: 200, body: "{}"},
		{name: "manifest by digest", method: "GET", path: "/v2/samples/oci/manifests/" + m.Digest.String(), status: 200, body: string(m.Body),
			header: map[string]string{"Content-Type": m.MediaType, "Docker-Content-Digest": m.Digest.String()}},
		{name: "HEAD of a tag", method: "HEAD", path: "/v2/samples/oci/manifests/v1", status: 200,
			header: map[string]string{"Docker-Content-Digest": m.Digest.String(), "Content-Type": m.MediaType}},
		{name: "blob", method: "GET", path: "/v2/samples/oci/blobs/" + blob.Digest.String(), status: 200, body: string(whole)},
		{name: "rest of a blob", method: "GET", path: "/v2/samples/oci/blobs/" + blob.Digest.String(), rang: "bytes=1000-", status: 206, body: string(whole[1000:])},
		{name: "piece of a blob", method: "GET", path: "/v2/samples/oci/blobs/" + blob.Digest.String(), rang: "bytes=10-19", status: 206, body: string(whole[10:20])},
		{name: "unknown manifest", method: "GET", path: "/v2/samples/oci/manifests/v2", status: 404},
		{name: "unknown repository", method: "GET", path: "/v2/samples/none/manifests/v1", status: 404},
		{name: "blob of another repository", method: "GET", path: "/v2/samples/docker/blobs/" + m.Digest.String(), status: 404},
		{name: "unknown endpoint", method: "GET", path: "/v2/samples/oci/nothing/v1", status: 404},
		{name: "push", method: "PUT", path: "/v2/samples/oci/manifests/v1", status: 405},
	} {
		t.Run(tc.name, func(t *testing.T) {
			header := http.Header{}
			if tc.rang != "" {
				header.Set("Range", tc.rang)
			}
			resp, body := get(t, c, tc.method, tc.path, header)
			if resp.StatusCode != tc.status {
				t.Fatalf("status %d, want %d: %s", resp.StatusCode, tc.status, body)
			}
			if tc.body != "" && string(body) != tc.body {
				t.Errorf("body of %d bytes, want %d", len(body), len(tc.body))
			}
			for k, v := range tc.header {
				if got := resp.Header.Get(k); got != v {
					t.Errorf("%s: %q, want %q", k, got, v)
				}
			}
		})
	}
}

func TestHandler_tagsComeInPages(t *testing.T) {
	c := upstream(t)
	path, got := "/v2/"+sample.ReleaseRepository+"/tags/list?n=5", []string(nil)
	for pages := 0; path != ""; pages++ {
		if pages > 10 {
			t.Fatal("the pages do not end")
		}
		resp, body := get(t, c, http.MethodGet, path, nil)
		var list struct{ Tags []string }
		if err := json.Unmarshal(body, &list); err != nil {
			t.Fatal(err)
		}
		got = append(got, list.Tags...)
		path, _, _ = strings.Cut(strings.TrimPrefix(resp.Header.Get("Link"), "<"), ">")
	}
	if want := c.Tags(sample.ReleaseRepository); !slices.Equal(got, want) {
		t.Errorf("pages give %v, want %v", got, want)
	}
}

func TestHandler_referrers(t *testing.T) {
	c := upstream(t)
	m, _ := c.Manifest("samples/signed", "v1")
	if _, ok := c.Manifest("samples/signed", "sha256-"+m.Digest.Encoded()+".sig"); !ok {
		t.Error("the image has no .sig tag")
	}
	referrers := func(query string) []ocispec.Descriptor {
		resp, body := get(t, c, http.MethodGet, "/v2/samples/signed/referrers/"+m.Digest.String()+query, nil)
		var index ocispec.Index
		if err := json.Unmarshal(body, &index); err != nil {
			t.Fatal(err)
		}
		if got := resp.Header.Get("Content-Type"); got != ocispec.MediaTypeImageIndex {
			t.Errorf("content type %q", got)
		}
		return index.Manifests
	}
	found := referrers("")
	if len(found) != 1 || found[0].ArtifactType != "application/spdx+json" {
		t.Fatalf("referrers are %+v", found)
	}
	if held, ok := c.Manifest("samples/signed", found[0].Digest.String()); !ok || digest.FromBytes(held.Body) != found[0].Digest {
		t.Errorf("the referrer %s cannot be pulled", found[0].Digest)
	}
	if n := len(referrers("?artifactType=application/other")); n != 0 {
		t.Errorf("%d referrers of another type", n)
	}
}
