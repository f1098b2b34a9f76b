package upstream

import (
	"context"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Registries reads from any registry. Each has one Client, which reuses connections and tokens.
type Registries struct {
	options func(registry string) (Options, error)

	mu      sync.Mutex // guards clients; held during options
	clients map[string]*Client
}

// NewRegistries returns Registries with these options.
func NewRegistries(options func(registry string) (Options, error)) *Registries {
	return &Registries{options: options, clients: map[string]*Client{}}
}

// Repository returns a repository of a registry. It sends no request.
func (r *Registries) Repository(registry, name string) (*Repository, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if c, ok := r.clients[registry]; ok {
		return &Repository{c, name}, nil
	}
	o, err := r.options(registry)
	if err != nil {
		return nil, err
	}
	c, err := New(o)
	if err != nil {
		return nil, err
	}
	r.clients[registry] = c
	return &Repository{c, name}, nil
}

// Close closes the clients.
func (r *Registries) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.clients {
		c.Close()
	}
}

// Repository is one repository of a registry, as a source to mirror from.
type Repository struct {
	client *Client
	name   string
}

// Manifest is Client.Manifest.
func (r *Repository) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	return r.client.Manifest(ctx, r.name, ref)
}

// Blob is Client.Blob.
func (r *Repository) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return r.client.Blob(ctx, r.name, d)
}

// BlobFrom is Client.BlobFrom.
func (r *Repository) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	return r.client.BlobFrom(ctx, r.name, d, offset)
}

// Stat is Client.Stat.
func (r *Repository) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	return r.client.Stat(ctx, r.name, d)
}

// Referrers is Client.Referrers.
func (r *Repository) Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	return r.client.Referrers(ctx, r.name, d)
}
