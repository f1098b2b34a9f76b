package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// A source is what is pulled through from an upstream. While the certificate files of the upstream cannot
// be used each request fails, and reads them again, as it reads a file of logins. The sources of blobs
// are recorded for the repair of damage.
type source struct {
	d    *daemon
	of   config.Upstream
	at   *url.URL
	path string // of at, without slashes around it

	mu   sync.Mutex       // guards open
	open *upstream.Client // nil: its files could not be used yet
}

// client returns the client, or the *upstream.TrustError of a file.
func (s *source) client() (*upstream.Client, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		return s.open, nil
	}
	options, err := s.d.readAs(s.of, s.at)
	if err != nil {
		return nil, err
	}
	s.open, err = upstream.New(options)
	return s.open, err
}

// state returns whether requests are sent, and why not or what will keep them from being sent.
func (s *source) state() (api.UpstreamState, error) {
	s.mu.Lock()
	open := s.open != nil
	s.mu.Unlock()
	down := s.d.upstreams.puller.Down(s.of.Prefix)
	switch err, expired := filesOf(s.of, s.at), expiredOf(s.of, s.at); {
	case err != nil && open && errors.As(err, new(*upstream.TrustError)):
		return api.UpstreamInService, fmt.Errorf("upstream %s: %w; in use is what was read before, until a restart", s.of.Prefix, err)
	case err != nil:
		return api.UpstreamOutOfService, fmt.Errorf("upstream %s is out of service: %w", s.of.Prefix, err)
	case down != nil && !s.d.link.Offline():
		return api.UpstreamNoAnswer, fmt.Errorf("upstream %s: %w", s.of.Prefix, down)
	case expired != nil:
		return api.UpstreamInService, fmt.Errorf("upstream %s: %w", s.of.Prefix, expired)
	}
	return api.UpstreamInService, nil
}

func (s *source) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open != nil {
		s.open.Close()
	}
}

// Resolve is as in upstream.Client, as what follows is.
func (s *source) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	c, err := s.client()
	if err != nil {
		return ocispec.Descriptor{}, err
	}
	return c.Resolve(ctx, repo, ref)
}

// Manifest fetches a manifest.
func (s *source) Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	c, err := s.client()
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	return c.Manifest(ctx, repo, ref)
}

// Referrers lists the referrers of a manifest.
func (s *source) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	return c.Referrers(ctx, repo, subject)
}

// Tags lists the tags of a repository.
func (s *source) Tags(ctx context.Context, repo string) ([]string, error) {
	c, err := s.client()
	if err != nil {
		return nil, err
	}
	return c.Tags(ctx, repo)
}

// Stat returns the size of a blob.
func (s *source) Stat(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	c, err := s.client()
	if err != nil {
		return 0, err
	}
	return c.Stat(ctx, repo, d)
}

// BlobFrom opens a blob, and records where it comes from.
func (s *source) BlobFrom(ctx context.Context, repo string, d digest.Digest, offset int64) (
	io.ReadCloser, int64, error) {
	c, err := s.client()
	if err != nil {
		return nil, 0, err
	}
	body, size, err := c.BlobFrom(ctx, repo, d, offset)
	if err != nil {
		return nil, 0, err
	}
	local := s.of.Prefix + "/" + strings.TrimPrefix(strings.TrimPrefix(repo, s.path), "/")
	if err := s.d.store.Blobs.RecordSource(ctx, local, c.Registry(), repo); err != nil {
		s.d.log.Warn("could not record where a blob comes from", "repository", local, "error", err)
	}
	return body, size, nil
}

// trustOf names the certificate files of an upstream.
func trustOf(u config.Upstream, at *url.URL) (t upstream.Trust, err error) {
	if u.CertDir != "" {
		t, err = upstream.TrustFiles(u.CertDir, at.Host)
	}
	if u.CA != "" {
		t.CAs = append(t.CAs, u.CA)
	}
	return t, err
}

// filesOf returns the error of a file without which an upstream cannot be asked: its CA, the client's
// certificate or key, its logins.
func filesOf(u config.Upstream, at *url.URL) error {
	trust, err := trustOf(u, at)
	if err == nil {
		_, err = upstream.TLSConfig(trust, false)
	}
	if err != nil || u.AuthFile == "" {
		return err
	}
	registry, err := name.NewRegistry(at.Host)
	if err != nil {
		return nil // reported by each request
	}
	_, err = upstream.Keychain(u.AuthFile).Resolve(registry)
	return err
}

// expiredOf returns the error of a certificate file of an upstream that is out of date.
func expiredOf(u config.Upstream, at *url.URL) error {
	trust, err := trustOf(u, at)
	if err != nil {
		return nil // is that of filesOf
	}
	return trust.Expired(time.Now())
}

// CheckUpstream returns the error of the first file of an upstream that cannot be used.
func CheckUpstream(u config.Upstream) error {
	for _, u := range (&config.Config{Upstreams: []config.Upstream{u}}).Routes() {
		at, err := url.Parse(u.URL)
		if err == nil {
			err = cmp.Or(filesOf(u, at), expiredOf(u, at))
		}
		if err != nil {
			return fmt.Errorf("upstream %s: %w", u.Prefix, err)
		}
	}
	return nil
}
