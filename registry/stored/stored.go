// Package stored reads a repository of the store as a source to mirror from: for what looks into the
// images that the registry has, such as views of catalogs and the update service.
//
// Use Repository. It has the errors of sources: what is not in the store is fs.ErrNotExist.
package stored

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

// Repository is a repository of the store.
type Repository struct {
	Store *store.Store
	Name  string
}

// Manifest reads the manifest of a tag or digest.
func (s Repository) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	read := func() (store.Manifest, error) { return s.Store.Manifests.ByTag(ctx, s.Name, ref) }
	if d := digest.Digest(ref); d.Validate() == nil {
		read = func() (store.Manifest, error) { return s.Store.Manifests.Get(ctx, s.Name, d) }
	}
	m, err := read()
	if err != nil {
		return ocispec.Descriptor{}, nil, s.absent(err)
	}
	return ocispec.Descriptor{MediaType: m.MediaType, Digest: m.Digest, Size: int64(len(m.Body))}, m.Body, nil
}

// Blob opens a blob.
func (s Repository) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	return s.BlobFrom(ctx, d, 0)
}

// BlobFrom opens a blob at an offset.
func (s Repository) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	f, err := s.Store.Blobs.Open(ctx, s.Name, d)
	if err != nil {
		return nil, 0, s.absent(err)
	}
	if _, err := f.Seek(offset, io.SeekStart); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, f.Size, nil
}

// Stat returns the size of a blob.
func (s Repository) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	size, err := s.Store.Blobs.Stat(ctx, s.Name, d)
	return size, s.absent(err)
}

// Resolve returns the digest of a tag or digest that exists.
func (s Repository) Resolve(ctx context.Context, ref string) (digest.Digest, error) {
	desc, _, err := s.Manifest(ctx, ref)
	return desc.Digest, err
}

// Tagged returns the digest of a tag, "" if it does not exist.
func (s Repository) Tagged(ctx context.Context, tag string) (digest.Digest, error) {
	d, err := s.Resolve(ctx, tag)
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	return d, err
}

// absent makes what the store does not have fs.ErrNotExist, as sources do.
func (s Repository) absent(err error) error {
	if errors.Is(err, store.ErrNotFound) {
		return fmt.Errorf("repository %s: %w: %w", s.Name, err, fs.ErrNotExist)
	}
	return err
}

// Whole returns a function that reads manifests, as Repository does, if their configurations and layers are
// here too.
func Whole(s *store.Store) func(ctx context.Context, repository, ref string) (ocispec.Descriptor, []byte, error) {
	return func(ctx context.Context, repository, ref string) (ocispec.Descriptor, []byte, error) {
		desc, body, err := Repository{Store: s, Name: repository}.Manifest(ctx, ref)
		if err != nil {
			return desc, body, err
		}
		whole, err := s.Manifests.Whole(ctx, repository, desc.Digest)
		if err == nil && !whole {
			err = fmt.Errorf("manifest %s of %s lacks a blob: %w", desc.Digest, repository, fs.ErrNotExist)
		}
		return desc, body, err
	}
}
