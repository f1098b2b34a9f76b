package views

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// stored is a repository of the store, as a source to mirror from.
type stored struct {
	store *store.Store
	repo  string
}

// Manifest reads the manifest of a tag or digest.
func (s stored) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	read := func() (store.Manifest, error) { return s.store.Manifests.ByTag(ctx, s.repo, ref) }
	if d := digest.Digest(ref); d.Validate() == nil {
		read = func() (store.Manifest, error) { return s.store.Manifests.Get(ctx, s.repo, d) }
	}
	m, err := read()
	if err != nil {
		return ocispec.Descriptor{}, nil, s.absent(err)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}, m.Body, nil
}

// Blob opens a blob.
func (s stored) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return s.BlobFrom(ctx, d, 0)
}

// BlobFrom opens a blob at an offset.
func (s stored) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	f, err := s.store.Blobs.Open(ctx, s.repo, d)
	if err != nil {
		return nil, 0, s.absent(err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, f.Size, nil
}

// Stat returns the size of a blob.
func (s stored) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	size, err := s.store.Blobs.Stat(ctx, s.repo, d)
	return size, s.absent(err)
}

// absent makes what the store does not have fs.ErrNotExist, as sources do.
func (s stored) absent(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("repository %s: %w: %w", s.repo, err, fs.ErrNotExist)
	}
	return err
}
