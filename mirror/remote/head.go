package remote

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/webpage"
)

// maxManifest is how much of a manifest is read to tell its digest.
const maxManifest = 32 << 20

// heads answers a HEAD by a GET where the registry, or a proxy in front of it, refuses HEAD or
// leaves out of a manifest's what go-containerregistry needs: the length (HTTP/2 proxies, older
// Harbor) or the digest. That a login page is there for a blob does not say that the blob is.
type heads struct{ inner http.RoundTripper }

func (t *heads) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(r)
	if err != nil || r.Method != http.MethodHead {
		return resp, err
	}
	manifest := strings.Contains(r.URL.Path, "/manifests/")
	switch resp.StatusCode {
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
	case http.StatusOK:
		digested := resp.Header.Get("Docker-Content-Digest") != ""
		if manifest && digested && resp.ContentLength >= 0 || !manifest && (digested || !webpage.Claims(resp)) {
			return resp, nil
		}
	default:
		return resp, nil
	}
	resp.Body.Close()
	get := r.Clone(r.Context())
	get.Method = http.MethodGet
	if resp, err = t.inner.RoundTrip(get); err != nil {
		return nil, err
	}
	if resp.StatusCode == http.StatusOK && manifest {
		if err := describe(resp); err != nil {
			return nil, err
		}
	}
	resp.Request = r
	if resp.StatusCode < http.StatusBadRequest { // of an error the text is told
		resp.Body.Close()
		resp.Body = http.NoBody
	}
	return resp, nil
}

// describe reads a manifest and sets the length and the digest of its answer.
func describe(resp *http.Response) error {
	defer resp.Body.Close()
	digester := digest.Canonical.Digester()
	n, err := io.Copy(digester.Hash(), io.LimitReader(resp.Body, maxManifest+1))
	if err != nil {
		return err
	}
	if n > maxManifest {
		return fmt.Errorf("%s is larger than %d bytes", resp.Request.URL.Redacted(), maxManifest)
	}
	resp.ContentLength = n
	resp.Header.Set("Docker-Content-Digest", digester.Digest().String())
	return nil
}

// pages makes an error of a web page in the place of an answer.
type pages struct {
	registry string
	inner    http.RoundTripper
}

func (t *pages) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := t.inner.RoundTrip(r)
	if err == nil && webpage.Is(resp) {
		resp.Body.Close()
		return nil, webpage.New(t.registry, r.URL.Scheme == "http")
	}
	return resp, err
}
