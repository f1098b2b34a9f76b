// Package ocilayout reads images from an OCI image layout: a directory with index.json and blobs,
// as skopeo, oras and oc-mirror write it.
//
// Use Open. A *Layout is a mirror.Source. Content is verified while it is read.
//
// Refused: go-containerregistry's pkg/v1/layout, which reads a blob without verifying it and finds
// none from an offset.
package ocilayout

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// Layout is a layout on disk. It is a mirror.Source.
type Layout struct {
	dir   string
	files fs.FS
	index ocispec.Index
	// whole is the index of all images of index.json, which the empty tag names.
	whole ocispec.Descriptor
	body  []byte

	once      sync.Once
	referrers map[digest.Digest][]ocispec.Descriptor
}

// Open opens the layout in a directory.
func Open(dir string) (*Layout, error) {
	l := &Layout{dir: dir, files: os.DirFS(dir)}
	body, err := l.read(ocispec.ImageIndexFile)
	if err == nil {
		err = json.Unmarshal(body, &l.index)
	}
	if err != nil {
		return nil, hint.New(fmt.Errorf("read %s as an OCI layout: %w", dir, err),
			"name a directory with index.json and blobs, as skopeo copy docker://IMAGE oci:DIR:TAG writes it")
	}
	return l, l.wrap()
}

// wrap finds the image without a tag: the only one, or an index of all.
func (l *Layout) wrap() (err error) {
	if len(l.index.Manifests) == 1 {
		l.whole = l.index.Manifests[0]
		return nil
	}
	all := ocispec.Index{Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex}
	for _, m := range l.index.Manifests {
		m.Annotations = nil // of the layout
		all.Manifests = append(all.Manifests, m)
	}
	l.body, err = json.Marshal(all)
	l.whole = ocispec.Descriptor{MediaType: all.MediaType, Digest: digest.FromBytes(l.body), Size: int64(len(l.body))}
	return err
}

// Root returns the descriptor of the image that the layout has, or of an index of all that it has.
func (l *Layout) Root() ocispec.Descriptor { return l.whole }

// resolve returns what a tag names. The empty tag, and "latest" if no image has that name, is Root.
func (l *Layout) resolve(tag string) (ocispec.Descriptor, error) {
	for _, m := range l.index.Manifests {
		if m.Annotations[ocispec.AnnotationRefName] == tag && tag != "" {
			return m, nil
		}
	}
	if (tag == "" || tag == "latest") && len(l.index.Manifests) > 0 {
		return l.whole, nil
	}
	return ocispec.Descriptor{}, hint.New(fmt.Errorf("%s has no image with the tag %q: %w", l.dir, tag, fs.ErrNotExist),
		"leave the tag out, or give one that "+path.Join(l.dir, ocispec.ImageIndexFile)+" has as "+ocispec.AnnotationRefName)
}

// Manifest returns what a tag or a digest names.
func (l *Layout) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	none := ocispec.Descriptor{}
	if err := ctx.Err(); err != nil {
		return none, nil, err
	}
	d := digest.Digest(ref)
	if image.CheckDigest(d) != nil {
		desc, err := l.resolve(ref)
		if err != nil {
			return none, nil, err
		}
		d = desc.Digest
	}
	if d == l.whole.Digest && l.body != nil {
		return l.whole, l.body, nil
	}
	name, err := blobName(d)
	if err != nil {
		return none, nil, err
	}
	body, err := l.read(name)
	if err != nil {
		return none, nil, fmt.Errorf("manifest %s of %s: %w", d, l.dir, err)
	}
	if d.Algorithm().FromBytes(body) != d {
		return none, nil, damaged(l.dir, d)
	}
	mediaType := image.DetectMediaType(body)
	for _, m := range l.index.Manifests {
		if m.Digest == d && m.MediaType != "" {
			mediaType = m.MediaType
		}
	}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}, body, nil
}

// read reads a small file.
func (l *Layout) read(name string) ([]byte, error) {
	f, err := l.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, image.MaxManifestBytes+1))
	if err == nil && len(data) > image.MaxManifestBytes {
		err = fmt.Errorf("%s has more than %d bytes", name, image.MaxManifestBytes)
	}
	return data, err
}

func blobName(d digest.Digest) (string, error) {
	if err := image.CheckDigest(d); err != nil {
		return "", err
	}
	return path.Join("blobs", d.Algorithm().String(), d.Encoded()), nil
}

func damaged(dir string, d digest.Digest) error {
	return hint.New(fmt.Errorf("%s: blob %s has other content", dir, d), "write the layout again: a copy of it was damaged")
}

// Stat returns the size of a blob.
func (l *Layout) Stat(ctx context.Context, d digest.Digest) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	name, err := blobName(d)
	if err != nil {
		return 0, err
	}
	info, err := fs.Stat(l.files, name)
	if err != nil {
		return 0, fmt.Errorf("blob %s of %s: %w", d, l.dir, err)
	}
	return info.Size(), nil
}

// Blob opens a blob, which is verified while it is read.
func (l *Layout) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	r, err := l.open(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	r.hash = d.Algorithm().Hash()
	return r, r.size, nil
}

// BlobFrom opens a blob at an offset, for a reader that verifies it.
func (l *Layout) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	r, err := l.open(ctx, d)
	if err != nil {
		return nil, 0, err
	}
	if offset < 0 || offset > r.size {
		err = fmt.Errorf("blob %s has %d bytes and no byte %d", d, r.size, offset)
	} else {
		r.done, err = r.file.(io.Seeker).Seek(offset, io.SeekStart)
	}
	if err != nil {
		return nil, 0, errors.Join(err, r.Close())
	}
	return r, r.size, nil
}

func (l *Layout) open(ctx context.Context, d digest.Digest) (*reading, error) {
	size, err := l.Stat(ctx, d)
	if err != nil {
		return nil, err
	}
	name, _ := blobName(d)
	f, err := l.files.Open(name)
	return &reading{ctx: ctx, file: f, dir: l.dir, digest: d, size: size}, err
}

// Referrers lists the manifests whose subject is d, among those of index.json and of the tag that
// stands for the referrers API.
func (l *Layout) Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	l.once.Do(func() { l.findReferrers(ctx) })
	all := slices.Clone(l.referrers[d])
	tag := d.Algorithm().String() + "-" + d.Encoded()
	if desc, err := l.resolve(tag); err == nil {
		var list ocispec.Index
		if _, body, err := l.Manifest(ctx, desc.Digest.String()); err == nil && json.Unmarshal(body, &list) == nil {
			all = append(all, list.Manifests...)
		}
	}
	seen := map[digest.Digest]bool{}
	return slices.DeleteFunc(all, func(m ocispec.Descriptor) bool {
		was := seen[m.Digest]
		seen[m.Digest] = true
		return was
	}), nil
}

func (l *Layout) findReferrers(ctx context.Context) {
	l.referrers = map[digest.Digest][]ocispec.Descriptor{}
	for _, m := range l.index.Manifests {
		desc, body, err := l.Manifest(context.WithoutCancel(ctx), m.Digest.String())
		if err != nil {
			continue // the reader of the image finds that out
		}
		parsed, err := image.Parse(desc.MediaType, body)
		if err == nil && parsed.Subject != "" {
			desc.ArtifactType = parsed.ArtifactType
			l.referrers[parsed.Subject] = append(l.referrers[parsed.Subject], desc)
		}
	}
}

// reading reads a blob. With a hash, the last bytes come only when the whole has the digest.
type reading struct {
	ctx    context.Context // of all reads
	file   fs.File
	dir    string
	digest digest.Digest
	size   int64
	hash   hash.Hash // nil: the reader verifies
	done   int64
	err    error
}

func (r *reading) Read(p []byte) (int, error) {
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err == nil && r.done >= r.size && r.hash == nil {
		r.err = io.EOF
	}
	if r.err != nil || len(p) == 0 {
		return 0, r.err
	}
	n, err := r.file.Read(p[:min(int64(len(p)), r.size-r.done)])
	if r.hash != nil {
		r.hash.Write(p[:n])
	}
	r.done += int64(n)
	if err != nil && r.done < r.size {
		r.err = fmt.Errorf("blob %s of %s: %w", r.digest, r.dir, cut(err))
		return 0, r.err
	}
	if r.done < r.size {
		return n, nil
	}
	if r.hash != nil && digest.NewDigest(r.digest.Algorithm(), r.hash) != r.digest {
		r.err = damaged(r.dir, r.digest)
		return 0, r.err
	}
	r.err = io.EOF
	return n, nil
}

// cut is the error of a file that became shorter.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Close ends the reading.
func (r *reading) Close() error {
	r.err = fs.ErrClosed
	return r.file.Close()
}
