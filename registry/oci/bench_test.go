package oci

import (
	"net/http"
	"net/http/httptest"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// discard is a response that costs nothing.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkManifestGet compares the front handler with the App on the same store: what is left of the
// request once HTTP and TLS are paid for.
func BenchmarkManifestGet(b *testing.B) {
	f := newFixture(b, nil)
	_, d := f.pushImage("openshift/release", "latest", 1)
	request := func(ref string) *http.Request {
		r := httptest.NewRequest("GET", "/v2/openshift/release/manifests/"+ref, nil)
		r.Header.Set("Accept", ocispec.MediaTypeImageManifest)
		return r
	}
	for name, c := range map[string]struct {
		handler http.Handler
		ref     string
	}{
		"digest/front": {f.api, d.String()},
		"digest/App":   {f.api.app, d.String()},
		"tag/front":    {f.api, "latest"},
		"tag/App":      {f.api.app, "latest"},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := request(c.ref)
				for pb.Next() {
					w := &discard{header: make(http.Header)}
					c.handler.ServeHTTP(w, r)
					if w.header.Get("Docker-Content-Digest") != d.String() {
						b.Error("not answered")
						return
					}
				}
			})
		})
	}
}
