package oci

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// discard is a ResponseWriter without cost.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header         { return d.header }
func (d *discard) WriteHeader(int)             {}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }

// BenchmarkManifestGet measures a GET without HTTP and TLS.
func BenchmarkManifestGet(b *testing.B) {
	f := newFixture(b, nil)
	_, d := f.pushImage("openshift/release", "latest", 1)
	for name, ref := range map[string]string{"digest": d.String(), "tag": "latest"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				r := httptest.NewRequest("GET", "/v2/openshift/release/manifests/"+ref, nil)
				r.Header.Set("Accept", ocispec.MediaTypeImageManifest)
				for pb.Next() {
					w := &discard{header: make(http.Header)}
					f.api.ServeHTTP(w, r)
					if w.header.Get("Docker-Content-Digest") != d.String() {
						b.Error("not answered")
						return
					}
				}
			})
		})
	}
}

// BenchmarkUpload measures a POST and a PUT of a small blob that exists already: the protocol
// with little of the store.
func BenchmarkUpload(b *testing.B) {
	f := newFixture(b, nil)
	f.pushBlob("a", []byte("content"))
	query := "&digest=" + digest.FromString("content").String()
	b.ReportAllocs()
	for b.Loop() {
		begun := &discard{header: make(http.Header)}
		f.api.ServeHTTP(begun, httptest.NewRequest("POST", "/v2/a/blobs/uploads/", nil))
		ended := &discard{header: make(http.Header)}
		f.api.ServeHTTP(ended, httptest.NewRequest("PUT", begun.header.Get("Location")+query, strings.NewReader("content")))
		if ended.header.Get("Docker-Content-Digest") == "" {
			b.Fatal("refused")
		}
	}
}
