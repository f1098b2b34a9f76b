package remote

import (
	"fmt"
	"net/http"
)

// oneScheme refuses plain HTTP where it was not asked for. Where it was, it refuses TLS to the
// registry itself, which go-containerregistry tries first, and lets other hosts have it: object
// storage that blobs are redirected to, or a token server.
type oneScheme struct {
	registry string // its host[:port], as in URLs
	plain    bool
	inner    http.RoundTripper
}

func (t *oneScheme) RoundTrip(r *http.Request) (*http.Response, error) {
	want := "https"
	if t.plain && (r.URL.Scheme == "http" || r.URL.Host == t.registry) {
		want = "http"
	}
	if r.URL.Scheme != want {
		if r.Body != nil {
			r.Body.Close()
		}
		return nil, fmt.Errorf("%s is not used, only %s: %w", r.URL.Scheme, want, http.ErrSchemeMismatch)
	}
	return t.inner.RoundTrip(r)
}
