// Package adopt imports what another registry has on this host into the appliance.
//
// A Source reads the other registry, and only reads it; Import puts its content into a run of the
// control API, so that it works with a daemon that serves and shows everything at once. The daemon
// verifies each blob, whichever way its file came: a link or a clone is one until then. What does not
// verify is reported, and not imported. An import that was killed is repeated: what came is there.
//
// Refused: to rename blobs one by one. Until the commit both registries are whole, so that the other
// one can go on when the import fails.
package adopt

import (
	"context"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// Source is the content of another registry. Names of blobs are in Files.
type Source interface {
	Repositories(ctx context.Context) ([]string, error)
	// Content returns what a repository has, with the problems of what cannot be read.
	Content(ctx context.Context, repository string) (Content, error)
	// Manifest returns the bytes of a manifest, and its media type where they may not tell it.
	Manifest(ctx context.Context, repository string, d digest.Digest) (body []byte, mediaType string, err error)
	Files() *os.Root
	BlobName(d digest.Digest) string
}

// Content is what a repository has.
type Content struct {
	Manifests []digest.Digest
	Tags      map[string]digest.Digest
	Problems  []Problem
}

// Destination is an open run of the appliance; *client.Run is it.
type Destination interface {
	Existing(ctx context.Context, blobs, manifests map[string][]digest.Digest) (
		haveBlobs, haveManifests, unconfirmed map[string][]digest.Digest, err error)
	Confirm(ctx context.Context, blobs map[string][]ocispec.Descriptor) (map[string][]digest.Digest, error)
	PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, r io.Reader) error
	PlaceBlob(ctx context.Context, repo string, desc ocispec.Descriptor, place func(path string) error) (bool, error)
	PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error
	Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error
	Commit(ctx context.Context) error
}

// Way is how files of blobs come into the store.
type Way string

// The ways. Each clones where the file system can.
const (
	Link Way = "link" // a hard link within a file system, else a copy
	Move Way = "move" // Link, and after the commit the files of the source are removed
	Copy Way = "copy"
)

// Options say where to import to.
type Options struct {
	Way      Way
	Run      Destination                                // nil: a dry run
	Storage  string                                     // of the appliance
	UID, GID int                                        // that the daemon runs as
	Existing func(repository, tag string) digest.Digest // what a tag names in the appliance, "": nothing
	Progress func(Report)                               // may be nil
}

// Problem is something that is not imported.
type Problem struct {
	Repository string `json:"repository,omitempty"` // none: it is a user
	Name       string `json:"name"`                 // a digest or a tag
	What       string `json:"what"`
}

func (p Problem) String() string {
	if p.Repository == "" {
		return "user " + p.Name + ": " + p.What
	}
	separator := ":"
	if _, err := digest.Parse(p.Name); err == nil {
		separator = "@"
	}
	return p.Repository + separator + p.Name + ": " + p.What
}

// Report is what an import did, or would do.
type Report struct {
	Repositories int   `json:"repositories"` // of which a manifest came
	Manifests    int   `json:"manifests"`
	Tags         int   `json:"tags"`
	Blobs        int   `json:"blobs"`
	BlobBytes    int64 `json:"blobBytes"`
	// How the blobs came; nothing of it in a dry run.
	Kept    int `json:"kept"` // the appliance had them
	Cloned  int `json:"cloned"`
	Linked  int `json:"linked"`
	Copied  int `json:"copied"`
	Removed int `json:"removed"` // files of the source, after the commit

	Users []string `json:"users,omitempty"` // with their passwords

	Problems []Problem `json:"problems"`
}

// blob is one that was looked at.
type blob struct {
	bad string // "" if the appliance has it
}

type importer struct {
	source Source
	o      Options

	mu      sync.Mutex // guards what follows
	report  Report
	blobs   map[digest.Digest]*blob
	noClone bool // the file systems cannot, and are not tried again
}

// Import imports all that the source has. Without an error everything but Report.Problems is in the
// appliance, or would be after a dry run. A tag that the appliance has already stays as it is there.
func Import(ctx context.Context, source Source, o Options) (Report, error) {
	im := &importer{source: source, o: o, blobs: map[digest.Digest]*blob{}}
	im.report.Problems = []Problem{}
	repositories, err := source.Repositories(ctx)
	if err != nil {
		return im.report, err
	}
	for _, name := range repositories {
		if err := im.repository(ctx, name); err != nil {
			return im.report, fmt.Errorf("import repository %s: %w", name, err)
		}
	}
	if o.Run == nil {
		return im.report, nil
	}
	if err := o.Run.Commit(ctx); err != nil {
		return im.report, err
	}
	return im.report, im.remove(ctx)
}

func (im *importer) count(change func(r *Report)) {
	im.mu.Lock()
	defer im.mu.Unlock()
	change(&im.report)
	if im.o.Progress != nil {
		im.o.Progress(im.report)
	}
}

func (im *importer) problem(repository, name, format string, args ...any) {
	im.count(func(r *Report) {
		r.Problems = append(r.Problems, Problem{Repository: repository, Name: name, What: fmt.Sprintf(format, args...)})
	})
}

// remove removes the files of blobs that are the appliance's now.
func (im *importer) remove(ctx context.Context) error {
	if im.o.Way != Move {
		return nil
	}
	for d, b := range im.blobs {
		if err := ctx.Err(); err != nil {
			return err
		}
		if b.bad != "" {
			continue
		}
		switch err := im.source.Files().Remove(im.source.BlobName(d)); {
		case err == nil:
			im.count(func(r *Report) { r.Removed++ })
		case !os.IsNotExist(err):
			return fmt.Errorf("everything is imported, but a blob of the source stays: %w", err)
		}
	}
	return nil
}

// atOnce is how many blobs are put at the same time: the daemon hashes each.
const atOnce = 4

// each calls f for all elements, some at the same time.
func each[E any](ctx context.Context, all []E, f func(context.Context, E) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(atOnce)
	for _, e := range all {
		g.Go(func() error { return f(ctx, e) })
	}
	return g.Wait()
}

// openFile opens a regular file of a source, whose owner may have put anything there.
func openFile(root *os.Root, name string) (*os.File, os.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file", name)
	}
	if err != nil {
		f.Close()
		return nil, nil, err
	}
	return f, info, nil
}

// readFile reads a small file of a source.
func readFile(root *os.Root, name string, limit int64) ([]byte, error) {
	f, info, err := openFile(root, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info.Size() > limit {
		return nil, fmt.Errorf("%s has %d bytes, more than %d", name, info.Size(), limit)
	}
	return io.ReadAll(io.LimitReader(f, limit))
}
