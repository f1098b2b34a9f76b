package rebuild

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/ocilayout"
)

// Image is an image that was made of another.
type Image struct {
	Root digest.Digest

	tag  string
	dir  string
	base Source
	made *ocilayout.Layout
}

// Open opens an image that Make has put into dir, of the same base. fs.ErrNotExist if there is none.
// Nothing of the base is read.
func Open(base Source, dir, tag string) (*Image, error) {
	made, err := ocilayout.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("rebuilt image: %w", err)
	}
	return &Image{Root: made.Root().Digest, tag: tag, dir: dir, base: base, made: made}, nil
}

// Check returns an error if something that was made is missing, or damaged.
func (i *Image) Check(ctx context.Context) error {
	raw, err := os.ReadFile(filepath.Join(i.dir, ocispec.ImageIndexFile))
	if err != nil {
		return err
	}
	var index ocispec.Index
	if err := json.Unmarshal(raw, &index); err != nil {
		return err
	}
	if _, _, err := i.made.Manifest(ctx, i.Root.String()); err != nil {
		return err
	}
	blobs := filepath.Join(i.dir, "blobs", "sha256")
	names := strings.Fields(index.Annotations[madeAnnotation])
	if len(names) == 0 { // made by an earlier version
		all, err := os.ReadDir(blobs)
		if err != nil {
			return err
		}
		for _, blob := range all {
			names = append(names, blob.Name())
		}
	}
	for _, name := range names {
		if err := checkBlob(ctx, filepath.Join(blobs, name)); err != nil {
			return err
		}
	}
	return nil
}

// checkBlob returns an error unless a file has the bytes that its name is the digest of.
func checkBlob(ctx context.Context, name string) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	of := digest.SHA256.Digester()
	if _, err := io.Copy(of.Hash(), f); err != nil {
		return err
	}
	if of.Digest().Encoded() != filepath.Base(name) {
		return fmt.Errorf("%s has other bytes than its name says", name)
	}
	return ctx.Err()
}

// Manifest returns a manifest that was made.
func (i *Image) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	if ref == i.tag {
		ref = i.Root.String()
	} else if digest.Digest(ref).Validate() != nil {
		return ocispec.Descriptor{}, nil, fmt.Errorf("rebuilt image: tag %s: %w", ref, fs.ErrNotExist)
	}
	desc, body, err := i.made.Manifest(ctx, ref)
	if err != nil {
		err = fmt.Errorf("rebuilt image: %w", err)
	}
	return desc, body, err
}

// Blob opens a blob that was made, or one of the base.
func (i *Image) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	body, size, err := i.made.Blob(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return i.base.Blob(ctx, d)
	}
	return body, size, err
}

// BlobFrom opens a blob at an offset, for a reader that verifies it.
func (i *Image) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	body, size, err := i.made.BlobFrom(ctx, d, offset)
	if errors.Is(err, fs.ErrNotExist) {
		return i.base.BlobFrom(ctx, d, offset)
	}
	return body, size, err
}

// Stat returns the size of a blob.
func (i *Image) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	size, err := i.made.Stat(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return i.base.Stat(ctx, d)
	}
	return size, err
}

// Referrers lists none: what was attached to the base is not about what was made of it.
func (i *Image) Referrers(context.Context, digest.Digest) ([]ocispec.Descriptor, error) {
	return nil, nil
}
