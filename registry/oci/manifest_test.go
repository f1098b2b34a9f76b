package oci

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
)

// A manifest is returned byte for byte and with its media type, by tag and by
// digest, whatever Accept says.
func TestManifest_bytesAsPushed(t *testing.T) {
	f := newFixture(t, nil)
	const repo = "deep/er/and/deep.er/still"
	child := f.image(repo, image.MediaTypeDockerManifest, 1)
	sparse := func(mediaType string) []byte {
		return fmt.Appendf(nil, `{"schemaVersion": 2,"mediaType":%q,"manifests":[{"mediaType":%q,"size":7,"digest":%q,"platform":{"architecture":"arm64","os":"linux"}}]}`,
			mediaType, image.MediaTypeDockerManifest, d256)
	}
	for name, c := range map[string]struct {
		mediaType string
		body      []byte
	}{
		"docker v2-2":        {image.MediaTypeDockerManifest, child},
		"oci image":          {ocispec.MediaTypeImageManifest, f.image(repo, ocispec.MediaTypeImageManifest, 2)},
		"sparse oci index":   {ocispec.MediaTypeImageIndex, sparse(ocispec.MediaTypeImageIndex)},
		"sparse docker list": {image.MediaTypeDockerList, sparse(image.MediaTypeDockerList)},
		"empty index":        {ocispec.MediaTypeImageIndex, []byte(`{"schemaVersion":2,"manifests":[]}`)},
		"unheard-of type":    {"application/vnd.example.whatever.v7+json", []byte(" {\"hello\" : \"\\u00e9\"}\r\n")},
		"foreign layer": {ocispec.MediaTypeImageManifest, fmt.Appendf(nil, `{"schemaVersion":2,"config":{"mediaType":"application/vnd.oci.empty.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.nondistributable.v1.tar","digest":%q,"size":5,"urls":["https://example.com/x"]}]}`,
			f.pushBlob(repo, []byte("{}")).Digest, d512)},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			tag := strings.NewReplacer(" ", "-").Replace(name)
			want := digest.FromBytes(c.body)
			put := f.putManifest("/v2/"+repo+"/manifests/"+tag, c.mediaType, c.body)
			put.wantHeader(t, "Location", "/v2/"+repo+"/manifests/"+want.String())
			put.wantHeader(t, "Docker-Content-Digest", want.String())
			for _, path := range []string{"/v2/" + repo + "/manifests/" + tag, put.Header.Get("Location")} {
				for _, accept := range []string{"", "*/*", image.MediaTypeDockerManifest, "application/vnd.docker.distribution.manifest.v1+json"} {
					got := f.do(http.StatusOK, "GET", path, nil, "Accept", accept)
					if !bytes.Equal(got.body, c.body) {
						t.Errorf("GET %s:\n got %q\nwant %q", path, got.body, c.body)
					}
					got.wantHeader(t, "Content-Type", c.mediaType)
					got.wantHeader(t, "Docker-Content-Digest", want.String())
					got.wantHeader(t, "Docker-Distribution-Api-Version", "registry/2.0")
				}
				head := f.do(http.StatusOK, "HEAD", path, nil)
				head.wantHeader(t, "Content-Length", fmt.Sprint(len(c.body)))
				head.wantHeader(t, "Content-Type", c.mediaType)
				head.wantHeader(t, "Docker-Content-Digest", want.String())
				if len(head.body) > 0 {
					t.Errorf("HEAD has a body: %q", head.body)
				}
			}
		})
	}
}

func TestManifest_byDigest(t *testing.T) {
	f := newFixture(t, nil)
	body := f.image("a", ocispec.MediaTypeImageManifest, 1)
	for _, algorithm := range []digest.Algorithm{digest.SHA256, digest.SHA512} {
		t.Run(string(algorithm), func(t *testing.T) {
			f.t = t
			d := algorithm.FromBytes(body)
			put := f.putManifest("/v2/a/manifests/"+d.String(), ocispec.MediaTypeImageManifest, body)
			put.wantHeader(t, "Docker-Content-Digest", d.String())
			got := f.do(http.StatusOK, "GET", put.Header.Get("Location"), nil)
			if !bytes.Equal(got.body, body) {
				t.Errorf("got %q", got.body)
			}
			other := algorithm.FromString("other")
			wrong := f.do(http.StatusBadRequest, "PUT", "/v2/a/manifests/"+other.String(), body, "Content-Type", ocispec.MediaTypeImageManifest)
			if code := wrong.code(t); code != codeDigestInvalid {
				t.Errorf("content that hashes to something else: %s", code)
			}
			f.do(http.StatusNotFound, "GET", "/v2/a/manifests/"+other.String(), nil)
		})
	}
}

func TestManifest_tagsAsParameters(t *testing.T) {
	f := newFixture(t, nil)
	body := f.image("a", ocispec.MediaTypeImageManifest, 1)
	path := "/v2/a/manifests/" + digest.FromBytes(body).String()
	put := f.putManifest(path+"?tag=1.2.3&tag=1.2&tag=latest", ocispec.MediaTypeImageManifest, body)
	if got := strings.Join(put.Header.Values("OCI-Tag"), ","); got != "1.2.3,1.2,latest" {
		t.Errorf("OCI-Tag: %q", got)
	}
	for _, tag := range []string{"1.2.3", "1.2", "latest"} {
		if got := f.do(http.StatusOK, "GET", "/v2/a/manifests/"+tag, nil); !bytes.Equal(got.body, body) {
			t.Errorf("%s: %q", tag, got.body)
		}
	}
	byTag := f.putManifest("/v2/a/manifests/latest?tag=other", ocispec.MediaTypeImageManifest, body)
	byTag.wantHeader(t, "OCI-Tag", "") // the parameter counts for a manifest by digest only
	f.do(http.StatusNotFound, "GET", "/v2/a/manifests/other", nil)
	bad := f.do(http.StatusBadRequest, "PUT", path+"?tag=fine&tag="+url.QueryEscape("not a tag"), body, "Content-Type", ocispec.MediaTypeImageManifest)
	if code := bad.code(t); code != codeManifestInvalid {
		t.Error(code)
	}
	f.do(http.StatusNotFound, "GET", "/v2/a/manifests/fine", nil)
}

func TestManifest_conditional(t *testing.T) {
	f := newFixture(t, nil)
	_, d := f.pushImage("a", "latest", 1)
	for _, method := range []string{"GET", "HEAD"} {
		for _, header := range []string{`"` + d.String() + `"`, d.String(), `W/"` + d.String() + `"`, `"x", "` + d.String() + `"`, "*"} {
			got := f.do(http.StatusNotModified, method, "/v2/a/manifests/latest", nil, "If-None-Match", header)
			if len(got.body) > 0 {
				t.Errorf("304 has a body")
			}
			got.wantHeader(t, "Docker-Content-Digest", d.String())
		}
		f.do(http.StatusOK, method, "/v2/a/manifests/latest", nil, "If-None-Match", `"`+d256+`"`)
	}
}

func TestManifest_size(t *testing.T) {
	f := newFixture(t, nil)
	sized := func(n int) string {
		const head, tail = `{"schemaVersion":2,"manifests":[],"annotations":{"x":"`, `"}}`
		return head + strings.Repeat("x", n-len(head)-len(tail)) + tail
	}
	largest := sized(image.MaxManifestBytes)
	f.putManifest("/v2/a/manifests/largest", ocispec.MediaTypeImageIndex, []byte(largest))
	if got := f.do(http.StatusOK, "GET", "/v2/a/manifests/largest", nil); string(got.body) != largest {
		t.Errorf("4 MiB came back as %d bytes", len(got.body))
	}
	tooLarge := strings.NewReader(sized(image.MaxManifestBytes + 1))
	for name, got := range map[string]reply{
		// Without the body: a client that is interrupted while it sends may not read the answer.
		"announced": f.raw("PUT /v2/a/manifests/toolarge HTTP/1.1\r\nHost: x\r\n", fmt.Sprintf("Content-Length: %d\r\n\r\n", tooLarge.Len())),
		"chunked":   f.do(http.StatusRequestEntityTooLarge, "PUT", "/v2/a/manifests/toolarge", struct{ io.Reader }{tooLarge}, "Content-Type", ocispec.MediaTypeImageIndex),
	} {
		if got.StatusCode != http.StatusRequestEntityTooLarge || got.code(t) != codeManifestInvalid || !strings.Contains(string(got.body), "4 MiB") {
			t.Errorf("%s: %s %s", name, got.Status, got.body)
		}
	}
}

func TestManifest_refused(t *testing.T) {
	f := newFixture(t, nil)
	whole := string(f.image("a", ocispec.MediaTypeImageManifest, 1))
	for name, c := range map[string]struct{ mediaType, body, code string }{
		"not JSON":          {ocispec.MediaTypeImageManifest, "{", codeManifestInvalid},
		"no body":           {ocispec.MediaTypeImageManifest, "", codeManifestInvalid},
		"a list":            {ocispec.MediaTypeImageManifest, "[]", codeManifestInvalid},
		"null":              {ocispec.MediaTypeImageManifest, "null", codeManifestInvalid},
		"other type inside": {image.MediaTypeDockerManifest, whole, codeManifestInvalid},
		"no media type":     {"", `{"schemaVersion":2,"manifests":[]}`, codeManifestInvalid},
		"malformed type":    {"a/b/c;;", whole, codeManifestInvalid},
		"Docker schema 1":   {"application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"fsLayers":[]}`, codeManifestInvalid},
		"malformed digest":  {ocispec.MediaTypeImageIndex, `{"schemaVersion":2,"manifests":[{"mediaType":"x/y","size":1,"digest":"sha256:x"}]}`, codeManifestInvalid},
		"missing layers":    {ocispec.MediaTypeImageManifest, strings.ReplaceAll(whole, digest.FromBytes(randomBytes(1, 1000)).String(), d256), codeManifestBlobUnknown},
		"missing config":    {ocispec.MediaTypeImageManifest, strings.ReplaceAll(whole, digest.FromString(`{"seed":1}`).String(), d512), codeManifestBlobUnknown},
	} {
		t.Run(name, func(t *testing.T) {
			f.t = t
			got := f.do(http.StatusBadRequest, "PUT", "/v2/a/manifests/bad", c.body, "Content-Type", c.mediaType)
			if code := got.code(t); code != c.code {
				t.Errorf("got %s: %s", code, got.body)
			}
			f.do(http.StatusNotFound, "GET", "/v2/a/manifests/bad", nil)
		})
	}
}

func TestManifest_delete(t *testing.T) {
	f := newFixture(t, nil)
	_, d := f.pushImage("a", "one", 1)
	body, _ := f.pushImage("a", "two", 1)
	f.pushImage("a", "other", 2)

	f.do(http.StatusAccepted, "DELETE", "/v2/a/manifests/one", nil)
	f.do(http.StatusNotFound, "GET", "/v2/a/manifests/one", nil)
	if got := f.do(http.StatusOK, "GET", "/v2/a/manifests/"+d.String(), nil); !bytes.Equal(got.body, body) {
		t.Error("deleting a tag deleted the manifest")
	}
	f.do(http.StatusAccepted, "DELETE", "/v2/a/manifests/"+d.String(), nil)
	for _, ref := range []string{"two", d.String()} {
		if got := f.do(http.StatusNotFound, "GET", "/v2/a/manifests/"+ref, nil); got.code(t) != codeManifestUnknown {
			t.Errorf("%s: %s", ref, got.body)
		}
		if got := f.do(http.StatusNotFound, "DELETE", "/v2/a/manifests/"+ref, nil); got.code(t) != codeManifestUnknown {
			t.Errorf("%s deleted again: %s", ref, got.body)
		}
	}
	f.do(http.StatusOK, "GET", "/v2/a/manifests/other", nil)
	f.do(http.StatusNotFound, "DELETE", "/v2/nowhere/manifests/"+d.String(), nil)
	f.do(http.StatusNotFound, "DELETE", "/v2/nowhere/manifests/tag", nil)
}

// Announcing a large manifest without sending it uses little memory.
func TestManifest_announced(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 100 {
		r := request(t, "PUT", "/v2/a/manifests/latest", "", []byte("{"), false)
		r.ContentLength = image.MaxManifestBytes
		if body, err := readManifest(httptest.NewRecorder(), r); err != nil || len(body) != 1 {
			t.Fatal(len(body), err)
		}
	}
	runtime.ReadMemStats(&after)
	if each := (after.TotalAlloc - before.TotalAlloc) / 100; each > 1<<20 {
		t.Errorf("one byte of %d took %d", image.MaxManifestBytes, each)
	}
}

// A manifest with the media type of a page does not run in a browser.
func TestManifest_isNotAPage(t *testing.T) {
	f := newFixture(t, nil)
	const body = `{"schemaVersion":2,"annotations":{"x":"<script>fetch('/api/v1/users')</script>"}}`
	f.putManifest("/v2/a/manifests/page", "text/html", []byte(body))
	got := f.do(http.StatusOK, "GET", "/v2/a/manifests/page", nil)
	got.wantHeader(t, "Content-Type", "text/html")
	got.wantHeader(t, "Content-Security-Policy", "default-src 'none'; sandbox")
	d := f.pushBlob("a", []byte("<script></script>")).Digest
	blob := f.do(http.StatusOK, "GET", "/v2/a/blobs/"+d.String(), nil, "Accept", "text/html")
	blob.wantHeader(t, "Content-Type", "application/octet-stream")
	blob.wantHeader(t, "X-Content-Type-Options", "nosniff")
}

// A media type counts in the repository that it was pushed to.
func TestManifest_mediaTypeIsTheRepositorys(t *testing.T) {
	f := newFixture(t, nil)
	body := []byte(`{"schemaVersion":2,"manifests":[]}`)
	types := map[string]string{
		"b/y": "application/vnd.acme.collection.v1+json",
		"a/y": "application/vnd.docker.distribution.manifest.list.v2+json",
	}
	for _, repo := range []string{"b/y", "a/y"} {
		f.putManifest("/v2/"+repo+"/manifests/t", types[repo], body)
	}
	for repo, want := range types {
		for _, ref := range []string{"t", digest.FromBytes(body).String()} {
			for _, method := range []string{http.MethodHead, http.MethodGet} {
				f.do(http.StatusOK, method, "/v2/"+repo+"/manifests/"+ref, nil, "Accept", "*/*").wantHeader(t, "Content-Type", want)
			}
		}
	}
}

// A list of referrers has the media types of its repository.
func TestReferrers_mediaTypeIsTheRepositorys(t *testing.T) {
	f := newFixture(t, nil)
	_, subject := f.pushImage("app", "v1", 1)
	body := fmt.Appendf(nil, `{"schemaVersion":2,"artifactType":"x/y","manifests":[],"subject":{"mediaType":"a/b","digest":%q,"size":1}}`, subject)
	for _, repo := range []string{"app", "other"} {
		f.putManifest("/v2/"+repo+"/manifests/t", "application/vnd."+repo+"+json", body)
	}
	for _, repo := range []string{"app", "other"} {
		r := f.do(http.StatusOK, http.MethodGet, "/v2/"+repo+"/referrers/"+subject.String(), nil)
		if !strings.Contains(string(r.body), `"application/vnd.`+repo+`+json"`) {
			t.Errorf("%s: %s", repo, r.body)
		}
	}
}
