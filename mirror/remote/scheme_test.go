package remote_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/remote"
)

func TestRun_redirects(t *testing.T) {
	data, desc := blob("x")
	for name, test := range map[string]struct {
		registry, storage func(http.Handler) *httptest.Server
		want              bool
	}{
		"from plain HTTP to https": {httptest.NewServer, httptest.NewTLSServer, true},
		"from https to plain HTTP": {httptest.NewTLSServer, httptest.NewServer, false},
	} {
		t.Run(name, func(t *testing.T) {
			asked := 0 // by one request at a time
			storage := test.storage(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				asked++
				_, _ = w.Write(data)
			}))
			t.Cleanup(storage.Close)
			inner := plainRegistry(t).handler
			registry := test.registry(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodHead && strings.HasSuffix(r.URL.Path, desc.Digest.String()) {
					http.Redirect(w, r, storage.URL+"/object", http.StatusTemporaryRedirect)
					return
				}
				inner.ServeHTTP(w, r)
			}))
			t.Cleanup(registry.Close)
			trusted := x509.NewCertPool()
			for _, server := range []*httptest.Server{registry, storage} {
				if c := server.Certificate(); c != nil {
					trusted.AddCert(c)
				}
			}
			scheme, host, _ := strings.Cut(registry.URL, "://")
			r, err := remote.Open(remote.Options{Registry: host, PlainHTTP: scheme == "http", TLS: &tls.Config{RootCAs: trusted}})
			if err != nil {
				t.Fatal(err)
			}
			existing, _, _, err := r.Existing(t.Context(), map[string][]digest.Digest{"a": {desc.Digest}}, nil)
			if got := len(existing["a"]) == 1; got != test.want || (err == nil) != test.want || (asked > 0) != test.want {
				t.Errorf("existing are %v, %v; the storage was asked %d times", existing, err, asked)
			}
			if !test.want {
				return
			}
			if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil {
				t.Error(err)
			}
		})
	}
}

// go-containerregistry tries TLS first, which is refused here and not tried again.
func TestRun_PutBlob_withoutTLS(t *testing.T) {
	var log bytes.Buffer
	registry := httptest.NewServer(plainRegistry(t).handler)
	t.Cleanup(registry.Close)
	r, err := remote.Open(remote.Options{Registry: strings.TrimPrefix(registry.URL, "http://"), PlainHTTP: true,
		Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	data := []byte("content")
	desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(data), Size: int64(len(data))}
	if err := r.PutBlob(t.Context(), "a", desc, bytes.NewReader(data)); err != nil {
		t.Fatal(err)
	}
	if log.Len() > 0 {
		t.Errorf("it logs %s", log.String())
	}
}
