package oci

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// The requests of oc 4.22, as recorded of `oc image mirror`, `oc adm release mirror` and `oc adm
// catalog mirror`, which all copy images in this way. `make oc` runs the program itself.
func TestOC_mirrorsAnImage(t *testing.T) {
	f := newFixture(t, nil)
	const layer, config = "a layer", `{"architecture":"amd64","os":"linux"}`
	of := func(s string) string { return digest.FromString(s).String() }
	const docker = "application/vnd.docker.distribution.manifest.v2+json"
	manifest := `{"schemaVersion":2,"mediaType":"` + docker + `","config":{"mediaType":"application/vnd.docker.container.image.v1+json","size":37,"digest":"` +
		of(config) + `"},"layers":[{"mediaType":"application/vnd.docker.image.rootfs.diff.tar.gzip","size":7,"digest":"` + of(layer) + `"}]}`

	f.do(http.StatusOK, "GET", "/v2/", nil)
	f.get(t, http.StatusNotFound, "/v2/from/app/manifests/"+of(manifest))
	for _, content := range []string{layer, config} {
		f.do(http.StatusNotFound, "HEAD", "/v2/from/app/blobs/"+of(content), nil)
		at := f.do(http.StatusAccepted, "POST", "/v2/from/app/blobs/uploads/", nil).Header.Get("Location")
		at = strings.TrimPrefix(at, f.server.URL)
		// The whole in one chunk, of which the length is not known before its end.
		at = f.do(http.StatusAccepted, "PATCH", at, io.MultiReader(strings.NewReader(content))).Header.Get("Location")
		at = strings.TrimPrefix(at, f.server.URL)
		f.do(http.StatusCreated, "PUT", withQuery(at, "digest="+strings.Replace(of(content), ":", "%3A", 1)), nil)
		f.do(http.StatusOK, "HEAD", "/v2/from/app/blobs/"+of(content), nil)
		f.do(http.StatusNotFound, "DELETE", at, nil) // it cancels what it has committed, and goes on
	}
	f.do(http.StatusCreated, "PUT", "/v2/from/app/manifests/v1", manifest, "Content-Type", docker)

	head := f.get(t, http.StatusOK, "/v2/from/app/manifests/v1")
	if head.Header.Get("Content-Type") != docker || head.Header.Get("Docker-Content-Digest") != of(manifest) {
		t.Errorf("oc reads %s of type %s", head.Header.Get("Docker-Content-Digest"), head.Header.Get("Content-Type"))
	}
	for _, content := range []string{layer, config} {
		query := "?from=from%2Fapp&mount=" + strings.Replace(of(content), ":", "%3A", 1)
		f.do(http.StatusCreated, "POST", "/v2/to/app/blobs/uploads/"+query, nil)
		f.do(http.StatusOK, "HEAD", "/v2/to/app/blobs/"+of(content), nil)
	}
	// Members of lists are put by digest, and what has no tag.
	f.do(http.StatusCreated, "PUT", "/v2/to/app/manifests/"+of(manifest), manifest, "Content-Type", docker)
	f.get(t, http.StatusOK, "/v2/to/app/manifests/"+of(manifest))
}

// withQuery adds to a location, which may have a query.
func withQuery(location, query string) string {
	if strings.Contains(location, "?") {
		return location + "&" + query
	}
	return location + "?" + query
}

// get reads a manifest with oc's Accept headers: one for each type, and not one with all.
func (f *fixture) get(t *testing.T, status int, path string) *http.Response {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, f.server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, accepted := range []string{"application/json", "application/vnd.oci.image.index.v1+json", "application/vnd.oci.image.manifest.v1+json",
		"application/vnd.docker.distribution.manifest.v1+prettyjws", "application/vnd.docker.distribution.manifest.list.v2+json",
		"application/vnd.docker.distribution.manifest.v2+json"} {
		req.Header.Add("Accept", accepted)
	}
	got, err := f.server.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	got.Body.Close()
	if got.StatusCode != status {
		t.Fatalf("GET %s: %s, want %d", path, got.Status, status)
	}
	return got
}
