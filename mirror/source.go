package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Source has the manifests and blobs of one repository. Methods may be called concurrently. A
// manifest or a blob that the repository does not have is an error with errors.Is(err,
// fs.ErrNotExist). Whatever may pass has been retried. An error of a context that ended is that
// context's. mirror/sourcetest checks all of this.
type Source interface {
	// Manifest returns what a tag or a digest names. The bytes hash to the descriptor's digest,
	// which is ref if ref is a digest.
	Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error)
	// Blob opens a blob; the size is -1 if it is not known. Reading ends with an error
	// instead of io.EOF, and without the last bytes, if the whole does not hash to d.
	// ctx ends the reading too.
	Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
	// BlobFrom is Blob for a reader that hashes the whole itself, and has what comes before
	// offset. The size is that of the whole blob.
	BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error)
	// Stat returns the size of a blob, -1 if it is not known.
	Stat(ctx context.Context, d digest.Digest) (int64, error)
	// Referrers lists the manifests whose subject is d. A manifest that does not exist has none.
	Referrers(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error)
}

// reader reads images from their sources. Which source has a repository is decided once for a run.
type reader struct {
	open func(imageset.Reference) (Source, error)

	mu        sync.Mutex            // guards the rest
	sources   map[string]Source     // by repository
	manifests map[string]readResult // by repository and digest, since releases share most of their components
	// known are small blobs that were read to plan, so that copying does not fetch them again.
	known map[digest.Digest][]byte
}

type readResult struct {
	desc ocispec.Descriptor
	body []byte
}

func newReader(open func(imageset.Reference) (Source, error)) *reader {
	return &reader{open: open, sources: map[string]Source{}, manifests: map[string]readResult{},
		known: map[digest.Digest][]byte{}}
}

// key names the repository of a reference.
func key(ref imageset.Reference) string {
	return ref.Transport + "://" + ref.Registry() + "/" + ref.Repository()
}

// source returns the source of the repository that a reference names.
func (r *reader) source(ref imageset.Reference) (Source, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s, ok := r.sources[key(ref)]; ok {
		return s, nil
	}
	s, err := r.open(ref)
	if err == nil {
		r.sources[key(ref)] = s
	}
	return s, err
}

// add sets the source of an image that this run has made. It has no registry.
func (r *reader) add(ref imageset.Reference, s Source) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources[key(ref)] = s
}

// manifest reads a manifest, one that is named by digest once.
func (r *reader) manifest(ctx context.Context, repository imageset.Reference,
	ref string) (ocispec.Descriptor, []byte, error) {
	at := key(repository) + "@" + ref
	r.mu.Lock()
	m, ok := r.manifests[at]
	r.mu.Unlock()
	if ok {
		return m.desc, m.body, nil
	}
	source, err := r.source(repository)
	if err != nil {
		return ocispec.Descriptor{}, nil, err
	}
	desc, body, err := source.Manifest(ctx, ref)
	heard(ctx)
	if err == nil && desc.Digest.String() == ref {
		r.mu.Lock()
		r.manifests[at] = readResult{desc, body}
		r.mu.Unlock()
	}
	return desc, body, err
}

// Blob opens a blob of an image.
func (r *reader) Blob(ctx context.Context, i *plan.Image, d digest.Digest) (io.ReadCloser, error) {
	source, err := r.source(i.Reference)
	if err != nil {
		return nil, err
	}
	body, _, err := source.Blob(ctx, d)
	return body, err
}

// remember keeps a small blob.
func (r *reader) remember(d digest.Digest, data []byte) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.known[d] = data
}

func (r *reader) remembered(d digest.Digest) ([]byte, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, ok := r.known[d]
	return data, ok
}

// remembering is a source whose known blobs are not read again.
type remembering struct {
	Source
	*reader
}

func (r remembering) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	if data, ok := r.remembered(d); ok {
		return io.NopCloser(bytes.NewReader(data)), int64(len(data)), nil
	}
	return r.Source.Blob(ctx, d)
}

func (r remembering) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	if data, ok := r.remembered(d); ok && offset <= int64(len(data)) {
		return io.NopCloser(bytes.NewReader(data[offset:])), int64(len(data)), nil
	}
	return r.Source.BlobFrom(ctx, d, offset)
}

// Read reads the manifests of an image.
func (r *reader) Read(ctx context.Context, i *plan.Image) (err error) {
	i.Digest, i.Manifests, err = r.walk(ctx, i.Reference, i.Reference.Ref(), i.Platforms...)
	return err
}

// walk reads the manifest that ref names in a repository, and those below it, which come first: of
// a list all members, or those of some platforms.
func (r *reader) walk(ctx context.Context, repository imageset.Reference, ref string,
	platforms ...imageset.OSArch) (digest.Digest, []plan.Manifest, error) {
	w := &walk{
		seen: map[digest.Digest]bool{}, platforms: platforms, found: map[string]bool{},
		fetch: func(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
			return r.manifest(ctx, repository, ref)
		},
	}
	root, err := w.manifest(ctx, ref, 0)
	if err == nil {
		err = w.complete()
	}
	return root, w.manifests, err
}

// Bounds of one image: of indexes in indexes, of its manifests, and of their bytes.
const (
	maxDepth     = 5
	maxManifests = 1000
	maxImage     = 64 << 20
)

// walk collects the manifests of an image.
type walk struct {
	fetch     func(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error)
	seen      map[digest.Digest]bool
	manifests []plan.Manifest
	bytes     int

	platforms []imageset.OSArch // of the members of lists; none means all
	found     map[string]bool   // platforms
	lists     bool              // a list was read
	sparse    bool              // members may be missing
}

// wants reports whether a child belongs to what is copied. An index within an index need not name
// a platform.
func (w *walk) wants(child image.Reference) bool {
	if len(w.platforms) == 0 || child.Platform == "" && image.IsIndex(child.MediaType) {
		return true
	}
	wanted := slices.ContainsFunc(w.platforms, func(p imageset.OSArch) bool { return p.String() == child.Platform })
	if wanted {
		w.found[child.Platform] = true
	}
	return wanted
}

// complete returns an error for a platform that a list does not have. An image that is no list is
// copied whatever its platform.
func (w *walk) complete() error {
	for _, p := range w.platforms {
		if w.lists && !w.found[p.String()] {
			return hint.New(fmt.Errorf("no instances found for platform %s", p),
				"check platforms in the image set configuration")
		}
	}
	return nil
}

func (w *walk) manifest(ctx context.Context, ref string, depth int) (digest.Digest, error) {
	if depth > maxDepth || len(w.manifests) >= maxManifests {
		return "", fmt.Errorf("indexes are nested deeper than %d, or more than %d manifests are below one", maxDepth, maxManifests)
	}
	desc, body, err := w.fetch(ctx, ref)
	if err != nil {
		return "", err
	}
	if w.seen[desc.Digest] {
		return desc.Digest, nil
	}
	w.seen[desc.Digest] = true
	if w.bytes += len(body); w.bytes > maxImage {
		return "", fmt.Errorf("its manifests have more than %d bytes", maxImage)
	}
	m, err := image.ParseNew(desc.MediaType, body)
	if err == nil && len(m.References) == 0 && !image.IsIndex(desc.MediaType) {
		err = errors.New("it names neither layers nor manifests, so it is not an image")
	}
	if err != nil {
		return "", fmt.Errorf("manifest %s: %w", desc.Digest, err)
	}
	w.lists = w.lists || image.IsIndex(desc.MediaType)
	for _, r := range m.References {
		if r.Kind != image.Child || !w.wants(r) || w.seen[r.Digest] {
			continue
		}
		_, err := w.manifest(ctx, r.Digest.String(), depth+1)
		if err != nil && !(w.sparse && errors.Is(err, fs.ErrNotExist)) {
			return "", err
		}
	}
	w.manifests = append(w.manifests, plan.NewManifest(desc, body, m))
	return desc.Digest, nil
}
