// Package archive keeps a mirror on disk in oc-mirror v2's format, the files mirror_000001.tar and
// so on: a Writer is a destination of a mirror run, an Archive has the sources of one. Either
// program imports what the other wrote.
//
// Use Create for mirror to disk, Open for disk to mirror, and Describe to show what there is. An
// Inventory lists the content of a destination, which an archive for it leaves out.
//
// Content goes from the source's connection to its place in a chunk, and from there into the
// destination: it is written once on each side. An archive also has a list of its own contents,
// from which a missing, damaged or foreign chunk is told before anything is imported.
//
// Refused: a cache on the way and an extracted copy, which are second copies of everything; and
// compression, since layers are compressed already.
package archive

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Options are where an archive is written and what it leaves out.
type Options struct {
	Dir       string // of the chunks and of working-dir
	ChunkSize int64  // the largest size of a chunk in bytes; 0: 500 GiB
	Strict    bool   // a file that does not fit into a chunk is an error before anything is written
	Since     time.Time
	Beside    int64      // bytes that the caller puts there too
	Have      *Inventory // what the far side has; nil: the history says
	ImageSet  []byte     // the configuration, as it was read
	// DryRun believes what an interrupted run has written, and writes nothing.
	DryRun  bool
	Version string           // of the program
	Now     func() time.Time // nil: time.Now
	Log     *slog.Logger     // nil: discard
	// Say is called with what a person should know of the archive that is in the directory.
	Say func(format string, args ...any) // nil: discard
}

const defaultChunkSize = 500 << 30

// Writer writes one archive. It is a mirror.Destination. While a run lasts its chunks have other
// names, and an archive that is in the directory stays until Commit has a whole one to put in its
// place. A run that ends early is continued by the next Writer of the directory.
type Writer struct {
	o    Options
	base base
	lock *os.File  // the directory
	here *standing // nil: none

	mu       sync.Mutex // guards the rest; not held while a blob is copied
	layout   *layout
	journal  *journal // nil: nothing is written yet
	id       string
	blobs    map[digest.Digest]*placed
	torn     map[digest.Digest]*placed // places of blobs that did not come whole, for when they do
	images   *images
	others   others          // of the archive that is there
	catalogs map[string]bool // repositories of operator catalogs
	complete *committed      // set when the chunks are whole
	copies   int64           // of a dry run: bytes that are copied from the archive that is there
	broken   error           // of a blob that is neither in its old place nor in its new one
}

// Create begins an archive in a directory, which it locks. Nothing is written before the first
// blob.
func Create(ctx context.Context, o Options) (_ *Writer, err error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Say == nil {
		o.Say = func(string, ...any) {}
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = defaultChunkSize
	}
	w := &Writer{o: o, blobs: map[digest.Digest]*placed{}, torn: map[digest.Digest]*placed{}, images: newImages(), others: others{images: newImages()}}
	if err := w.acquire(); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, w.Close())
		}
	}()
	old, err := readJournal(o.Dir)
	if err != nil {
		return nil, err
	}
	if old != nil && old.commit != nil && !o.DryRun { // a crash, in the middle of the last renames
		if err := finish(o.Dir, old.commit); err != nil {
			return nil, err
		}
		old = nil
	}
	if old != nil && !old.writable(o.Dir) {
		w.o.Say("another user's run into %s was interrupted, and its files cannot be continued: this one begins anew", o.Dir)
		if !o.DryRun {
			if err := discard(o.Dir); err != nil {
				return nil, writeError(err)
			}
		}
		old = nil
	}
	w.id = rand.Text()
	if err := w.chooseBase(ctx); err != nil {
		return nil, err
	}
	if old == nil {
		if err = w.takeOver(ctx); err == nil && !o.DryRun {
			old, err = readJournal(o.Dir)
		}
		if err != nil {
			return nil, err
		}
	}
	w.layout = &layout{dir: o.Dir, limit: o.ChunkSize, created: o.Now().UTC().Truncate(time.Second),
		added: w.addedChunk}
	if old == nil {
		return w, nil
	}
	return w, w.resume(ctx, old)
}

// acquire makes the directory and locks it, so that two runs do not write into one archive.
func (w *Writer) acquire() error {
	if err := os.MkdirAll(w.o.Dir, 0o755); err != nil {
		return writeError(err)
	}
	dir, err := os.Open(w.o.Dir)
	if err != nil {
		return fmt.Errorf("open the directory of the archive: %w", err)
	}
	w.lock = dir
	if errors.Is(durable.Lock(dir, durable.Exclusive), durable.ErrLocked) { // some file systems have no locks
		return hint.New(fmt.Errorf("another run writes an archive into %s", w.o.Dir),
			"wait until it has ended, or name another directory")
	}
	return nil
}

// resume takes over what an interrupted run has written.
func (w *Writer) resume(ctx context.Context, old *left) error {
	w.layout.created = old.Created
	blobs, err := w.layout.open(old)
	if err != nil {
		return err
	}
	if !w.o.DryRun {
		w.o.Log.Info("continuing an archive that was not finished", "directory", w.o.Dir, "blobs", len(blobs))
		if w.torn, err = takeTorn(ctx, blobs); err != nil {
			return err
		}
		w.o.Log.Info("of blobs that were not written to their end the rest is fetched", "blobs", len(w.torn))
	}
	w.layout.take(blobs, w.torn)
	w.id, w.blobs = old.Archive, blobs
	return nil
}

// begin opens the journal before the first write.
func (w *Writer) begin() error {
	switch {
	case w.o.DryRun:
		return errors.New("nothing is written in a dry run")
	case w.complete != nil || w.lock == nil:
		return errors.New("the archive is closed")
	case w.journal != nil:
		return nil
	}
	resumed := len(w.layout.chunks) > 0
	if !resumed {
		if err := discard(w.o.Dir); err != nil {
			return writeError(err)
		}
	}
	f, err := os.OpenFile(filepath.Join(w.o.Dir, journalName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return writeError(err)
	}
	w.journal = &journal{f}
	if resumed {
		_, err := f.WriteString("\n") // after a line that may be torn
		return err
	}
	return w.journal.write(line{Begin: &begun{Format: format, Archive: w.id, Created: w.layout.created}})
}

// addedChunk notes a new chunk.
func (w *Writer) addedChunk(c *chunk) error {
	return w.journal.write(line{Chunk: &chunkLine{c.number, c.alone}})
}

// Existing lists the blobs that the archive has or leaves out, and the manifests that this run has
// put: those are in every archive, so that an import needs no other source of them. A blob counts
// for all repositories.
func (w *Writer) Existing(_ context.Context, blobs,
	manifests map[string][]digest.Digest) (existingBlobs, existingManifests,
	unconfirmed map[string][]digest.Digest, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	existingBlobs, existingManifests = map[string][]digest.Digest{}, map[string][]digest.Digest{}
	for repo, list := range blobs {
		for _, d := range list {
			if w.has(repo, d) {
				existingBlobs[repo] = append(existingBlobs[repo], d)
			}
		}
	}
	for repo, list := range manifests {
		for _, d := range list {
			if w.images.has(repo, d) {
				existingManifests[repo] = append(existingManifests[repo], d)
			}
		}
	}
	return existingBlobs, existingManifests, nil, nil
}

// has reports whether the archive has a blob, or leaves it out. Of an operator catalog it leaves out
// nothing: an import reads it, and makes it again without a bundle whose image does not arrive.
func (w *Writer) has(repo string, d digest.Digest) bool {
	return w.blobs[d] != nil || w.base.digests[d] && !w.catalogs[repo]
}

// Confirm stages nothing: no blob is unconfirmed.
func (w *Writer) Confirm(context.Context, map[string][]ocispec.Descriptor) (map[string][]digest.Digest, error) {
	return nil, nil
}

// PutBlob writes a blob to the place that is reserved for it.
func (w *Writer) PutBlob(ctx context.Context, _ string, desc ocispec.Descriptor, r io.Reader) error {
	p, err := w.reserve(desc)
	if err != nil {
		return err
	}
	err = p.fill(ctx, desc, r)
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case w.blobs[desc.Digest] != nil || w.torn[desc.Digest] != nil:
		w.layout.release(p.region)
	case err == nil:
		w.blobs[desc.Digest] = p
	default:
		w.torn[desc.Digest] = p
	}
	return err
}

// reserve returns the place of a blob: the one that it did not fill before, if there is one. The
// journal has it before it is written, so that a run that continues another knows where to.
func (w *Writer) reserve(desc ocispec.Descriptor) (*placed, error) {
	if err := image.CheckDigest(desc.Digest); err != nil {
		return nil, err
	}
	if desc.Size < 0 || desc.Size > largest {
		return nil, fmt.Errorf("blob %s cannot have %d bytes", desc.Digest, desc.Size)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err := w.begin(); err != nil {
		return nil, err
	}
	head, err := header(blobName(desc.Digest), desc.Size, w.layout.created)
	if err != nil {
		return nil, err
	}
	if p := w.torn[desc.Digest]; p != nil && p.size == desc.Size {
		delete(w.torn, desc.Digest)
		return p, nil
	}
	region, alone, err := w.layout.reserve(int64(len(head)) + padded(desc.Size))
	if err != nil {
		return nil, err
	}
	if alone {
		w.o.Log.Warn("a blob is larger than archiveSize and has a chunk of its own", "blob",
			desc.Digest, "bytes", desc.Size)
	}
	at := &place{desc.Digest, desc.Size, region.number, region.offset}
	if err := w.journal.write(line{Blob: at}); err != nil {
		w.layout.release(region)
		return nil, err
	}
	return &placed{region: region, header: head, size: desc.Size}, nil
}

// Lacks notes the images of the plan that are not at their end in the archive, for the list of contents.
func (w *Writer) Lacks(all []plan.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images.lacks = map[*plan.Image]string{}
	for _, f := range all {
		w.images.lacks[f.Image] = f.Error
	}
}

// PutManifest keeps a manifest for Commit.
func (w *Writer) PutManifest(_ context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images.put(repo, desc, body)
}

// Tag keeps tags for Commit.
func (w *Writer) Tag(_ context.Context, tags map[string]map[string]digest.Digest) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.images.tag(tags)
}

// Planned checks that a plan fits, and keeps it for the list of contents. Blobs of an interrupted
// run that are not in the plan make place for others.
func (w *Writer) Planned(ctx context.Context, p *plan.Plan) (err error) {
	if err := w.readOthers(ctx, p); err != nil {
		return errors.Join(err, w.others.close())
	}
	if err := w.take(p); err != nil {
		return errors.Join(err, w.others.close())
	}
	return errors.Join(w.copyOthers(ctx), w.others.close())
}

// take takes a plan, if it fits.
func (w *Writer) take(p *plan.Plan) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.images.plan = p
	w.takeCatalogs(p)
	if err := w.fits(p); err != nil || w.o.DryRun {
		return err
	}
	wanted := w.others.blobs()
	for _, b := range p.Distinct() {
		wanted[b.Digest] = true
	}
	w.drop(w.blobs, func(d digest.Digest) bool { return !wanted[d] })
	w.drop(w.torn, func(d digest.Digest) bool { return !wanted[d] })
	return nil
}

// takeCatalogs notes where operator catalogs are, and that the archive lacks what only its base has
// of them.
func (w *Writer) takeCatalogs(p *plan.Plan) {
	w.catalogs = map[string]bool{}
	taken := false
	for _, i := range p.Images {
		if i.Type == plan.OperatorCatalog {
			w.catalogs[i.Repository] = true
		}
	}
	for repo, b := range p.Distinct() {
		if w.catalogs[repo] && w.base.digests[b.Digest] && w.blobs[b.Digest] == nil {
			delete(p.There, b.Digest)
			taken = true
		}
	}
	if taken {
		p.Measure()
	}
}

// drop gives up the places of some blobs.
func (w *Writer) drop(blobs map[digest.Digest]*placed, unwanted func(digest.Digest) bool) {
	for d, p := range blobs {
		if unwanted(d) {
			w.layout.release(p.region)
			delete(blobs, d)
		}
	}
}

// Abort ends the run. What is written is kept for the next one, and the archive that was there
// stays.
func (w *Writer) Abort(context.Context) error { return nil }

// Close frees the directory and leaves what is written.
func (w *Writer) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	var err error
	if w.layout != nil {
		err = w.layout.close()
	}
	if w.journal != nil {
		err = errors.Join(err, w.journal.file.Close())
		w.journal = nil
	}
	if w.lock != nil {
		err = errors.Join(err, w.lock.Close())
		w.lock = nil
	}
	return err
}
