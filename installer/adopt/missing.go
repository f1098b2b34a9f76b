package adopt

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
)

// Comparison compares a source with what the appliance has of it.
type Comparison struct {
	Run      Destination                                // which is not to be committed
	Existing func(repository, tag string) digest.Digest // what a tag names in the appliance, "": nothing
	Storage  *os.Root                                   // of the appliance
	BlobName func(d digest.Digest) string               // the name of a blob's file there
	Mend     bool                                       // put the source's copy in the place of a damaged one
	Progress func(read, of int64)                       // bytes of blobs
}

// Compared is what came of a comparison.
type Compared struct {
	Missing []Problem
	Mended  []digest.Digest // blobs of the appliance that were damaged
}

// comparer compares.
type comparer struct {
	Comparison
	source Source
	im     *importer // reads manifests
	blobs  []placed
	of     int64

	mu     sync.Mutex // guards what follows
	result Compared
	read   int64
}

// placed is a blob that the appliance says it has.
type placed struct {
	desc       ocispec.Descriptor
	repository string // one that has it
}

// Compare lists the manifests, tags and blobs of a source that the appliance lacks. A blob counts when the
// appliance's file of it is read and has its digest. A tag that names something else by now is there.
func (c Comparison) Compare(ctx context.Context, source Source) (Compared, error) {
	w := &comparer{Comparison: c, source: source, im: &importer{source: source}}
	names, err := source.Repositories(ctx)
	if err != nil {
		return w.result, err
	}
	seen := map[digest.Digest]bool{}
	for _, name := range names {
		if err := image.CheckRepository(name); err != nil {
			w.lacks(image.Quote(name), "*", "%v", err)
			continue
		}
		if err := w.repository(ctx, name, seen); err != nil {
			return w.result, err
		}
	}
	err = each(ctx, w.blobs, w.blob)
	return w.result, err
}

func (w *comparer) lacks(repository, name, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.result.Missing = append(w.result.Missing, Problem{Repository: repository, Name: name, What: fmt.Sprintf(format, args...)})
}

// repository compares manifests and tags, and notes the blobs that are to be read.
func (w *comparer) repository(ctx context.Context, name string, seen map[digest.Digest]bool) error {
	content, err := w.source.Content(ctx, name)
	if err != nil {
		return err
	}
	manifests := map[digest.Digest]*manifest{}
	for _, d := range content.Manifests {
		if err := ctx.Err(); err != nil {
			return err
		}
		manifests[d] = w.im.read(ctx, name, d)
	}
	wanted := w.im.wanted(manifests)
	var ask []digest.Digest
	for d := range wanted {
		ask = append(ask, d)
	}
	haveBlobs, haveManifests, _, err := w.Run.Existing(ctx, map[string][]digest.Digest{name: ask}, map[string][]digest.Digest{name: content.Manifests})
	if err != nil {
		return err
	}
	have := map[digest.Digest]bool{}
	for _, d := range haveBlobs[name] {
		have[d] = true
		if !seen[d] {
			seen[d] = true
			w.blobs, w.of = append(w.blobs, placed{wanted[d], name}), w.of+wanted[d].Size
		}
	}
	for _, d := range content.Manifests {
		switch lost := firstLost(manifests[d], wanted, have); {
		case lost != "":
			w.lacks(name, d.String(), "the appliance does not have its layer %s", lost)
		case !slices.Contains(haveManifests[name], d):
			w.lacks(name, d.String(), "the appliance does not have this manifest")
		}
	}
	for tag := range content.Tags {
		if w.Existing(name, tag) == "" {
			w.lacks(name, tag, "the appliance does not have this tag")
		}
	}
	return nil
}

// firstLost returns a blob of a manifest that the appliance does not have, "" if there is none.
func firstLost(m *manifest, wanted map[digest.Digest]ocispec.Descriptor, have map[digest.Digest]bool) digest.Digest {
	for _, r := range m.parsed.References {
		if _, ok := wanted[r.Digest]; ok && !have[r.Digest] {
			return r.Digest
		}
	}
	return ""
}

// blob reads the appliance's file of a blob, and mends it.
func (w *comparer) blob(ctx context.Context, b placed) error {
	if w.same(b.desc.Digest) {
		w.lacks(b.repository, b.desc.Digest.String(), "the appliance's file of it is the mirror-registry's, by another way to its directory")
		return nil
	}
	damage, err := w.damage(ctx, b.desc)
	if err != nil || damage == "" {
		return err
	}
	if !w.Mend {
		w.lacks(b.repository, b.desc.Digest.String(), "the appliance's copy of it %s; the mirror-registry's is to take its place", damage)
		return nil
	}
	why, err := w.mend(ctx, b)
	if err != nil {
		return err
	}
	if why == "" {
		if damage, err = w.damage(ctx, b.desc); err != nil || damage == "" {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.result.Mended = append(w.result.Mended, b.desc.Digest)
			return err
		}
		why = "was put in its place"
	}
	w.lacks(b.repository, b.desc.Digest.String(), "the appliance's copy of it %s, and the mirror-registry's %s: push or mirror the image again", damage, why)
	return nil
}

// same reports whether the appliance and the source have one file with one name, such as by a bind mount.
func (w *comparer) same(d digest.Digest) bool {
	ours, err := w.Storage.Lstat(w.BlobName(d))
	if err != nil || ours.Sys().(*syscall.Stat_t).Nlink > 1 {
		return false
	}
	theirs, err := w.source.Files().Lstat(w.source.BlobName(d))
	return err == nil && os.SameFile(ours, theirs)
}

func otherSize(got, want int64) string { return fmt.Sprintf("has %d bytes instead of %d", got, want) }

// damage returns what is wrong with the appliance's file of a blob, "" for nothing.
func (w *comparer) damage(ctx context.Context, desc ocispec.Descriptor) (string, error) {
	f, info, err := openFile(w.Storage, w.BlobName(desc.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing", nil
	case errors.Is(err, fs.ErrPermission):
		return "", hint.New(err, "run the command as the user who installed the appliance (root: with sudo)")
	case err != nil:
		return "cannot be read: " + err.Error(), ctx.Err()
	}
	defer f.Close()
	if info.Size() != desc.Size {
		return otherSize(info.Size(), desc.Size), nil
	}
	verifier := desc.Digest.Verifier()
	_, err = throttle.Copy(ctx, verifier, f, func(_ context.Context, n int) error {
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.read += int64(n); w.Progress != nil {
			w.Progress(w.read, w.of)
		}
		return nil
	})
	switch {
	case ctx.Err() != nil:
		return "", ctx.Err()
	case err != nil:
		return "cannot be read: " + err.Error(), nil
	case !verifier.Verified():
		return "is damaged: it has another digest", nil
	}
	return "", nil
}

// mend puts the source's copy of a blob, or returns what is wrong with that.
func (w *comparer) mend(ctx context.Context, b placed) (why string, err error) {
	f, info, err := openFile(w.source.Files(), w.source.BlobName(b.desc.Digest))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "is missing", nil
	case err != nil:
		return "cannot be read: " + err.Error(), ctx.Err()
	}
	defer f.Close()
	if info.Size() != b.desc.Size {
		return otherSize(info.Size(), b.desc.Size), nil
	}
	switch err := w.Run.PutBlob(ctx, b.repository, b.desc, f); {
	case mismatch(err):
		return "is damaged as well", nil
	case err != nil:
		return "", fmt.Errorf("bring back blob %s: %w", b.desc.Digest, err)
	}
	return "", nil
}
