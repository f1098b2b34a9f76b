// Package mirror fills a registry from an image set configuration.
//
// Use Run, or DryRun, which stops at the plan. Both collect: each section of the configuration has
// a collector, which turns it into images, and Source says where their manifests and blobs are
// read. Both compare: the destination is asked, for many images at once, what it has. Run then
// executes: it copies the rest, children before parents, verifies, moves the tags and commits, so
// that a repeated run is a resume, and one that has nothing to do a few requests. At the end it
// writes a report and the cluster's resources to the workspace.
//
// A failure is named, with its cause and with what it makes incomplete, and the other images are
// copied: a mirror of a thousand images is not lost to one of them. Complete images become visible
// together, in one commit, also when others failed. The tag of an image that failed stays where it
// was. A release is complete with all its components or not at all.
//
// Refused: a cache registry on this host, which is a second copy of everything, and stopping
// everything at the first failure, which oc-mirror does for releases.
package mirror

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/metadata"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// Bounds of Options.ParallelImages and ParallelLayers, and their defaults, which are oc-mirror's.
const (
	maxParallel           = 10
	DefaultParallelImages = 4
	DefaultParallelLayers = 5
)

// Options are what is mirrored, its sources and its destination.
type Options struct {
	Config *imageset.Config
	// Open opens the source of the repository that a reference names.
	Open func(imageset.Reference) (Source, error)
	// Begin begins a run at the destination. The name describes it to people.
	Begin func(ctx context.Context, name string) (Destination, error)
	// Served returns the cluster resources that the destination serves; nil: it serves none.
	Served func(ctx context.Context) ([]resources.File, error)
	// Held reads a manifest that the destination has; nil: it cannot be read. An image that is named by
	// digest is read there when its source fails.
	Held ReadManifest
	// Registry is the destination's host[:port], and Prefix the path below it. Both
	// are for names only.
	Registry, Prefix string
	// Workspace is the directory that has working-dir.
	Workspace string
	// Locked is set by a caller that has locked the workspace with Lock.
	Locked bool
	// Owner names the image set to other workspaces that would delete what it needs; "": by its file
	// and the workspace.
	Owner string
	Graph updategraph.Client
	// Signatures are how signatures are verified.
	Signatures Signatures
	// Documents are those of an archive that is mirrored from, by their names in
	// working-dir; nil: the sources are asked, over the network. Those are read first, and
	// the workspace's after them.
	Documents interface {
		Read(name string) ([]byte, error)
		List(dir string) ([]string, error)
	}
	// ArchiveV1 is set if the archive is one of oc-mirror v1 that is published.
	ArchiveV1 *ArchiveV1
	// OnlyThisRun writes cluster resources for the images of this run. Else they are for all that
	// the workspace has mirrored to the registry.
	OnlyThisRun bool
	// FollowDependencies adds the operators that others require.
	FollowDependencies bool
	// KeepUpgradePaths mirrors the channels of which only the head is asked for from the head of the
	// first run on, as oc-mirror v1 does.
	KeepUpgradePaths bool
	// Past is what oc-mirror v1, or a run here, remembers of a mirror of version 1 that goes on: what its
	// channels begin with, and what it has mirrored, for Prune. The report has the next one.
	Past *metadata.Metadata
	// Prune is what a run in which nothing fails deletes from: what the workspace has mirrored to the
	// destination and no image set of it asks for any more, as PlanPrune lists it. nil: nothing is.
	Prune Pruner
	// DefaultSourceNames gives the vendor's catalogs the names of a cluster's default sources.
	DefaultSourceNames bool
	// Beside is how many bytes the caller puts at the destination after the run.
	Beside int64
	// ToArchive is a run into an archive, which no cluster is told of.
	ToArchive bool
	// Pin writes the image set with the digests that its tags had, and what deletes that.
	Pin    bool
	Charts Charts
	// MaxNestedPaths is how many components the destination's repositories may have; 0 is any
	// number. More are joined.
	MaxNestedPaths int
	// ListMembers adds the members of manifest lists to the mapping of a dry run.
	ListMembers bool

	ParallelImages, ParallelLayers int // 0: the defaults
	// ImageTimeout is after how long an image fails that makes no progress; 0: never.
	ImageTimeout time.Duration
	Version      string
	Now          func() time.Time // nil: time.Now
	// Sleep waits before the destination is asked again. nil is a timer.
	Sleep  func(ctx context.Context, d time.Duration) error
	Log    *slog.Logger // nil: discard
	Events func(Event)  // progress; may be nil. Called from several goroutines.
}

// Event is a step of progress.
type Event struct {
	Kind  EventKind
	Image *plan.Image // nil for Planned
	Plan  *plan.Plan  // of Planned
	Bytes int64       // of Bytes: read from the source since the image's last such event
	Err   error       // of Failed and Resolved
}

// EventKind is the kind of an event.
type EventKind int

// The kinds of events.
const (
	Resolved EventKind = iota // the manifests of an image of the plan have been read, or could not be
	Planned                   // copying begins
	Started
	Bytes
	Done    // copied
	Existed // at the destination already
	Failed
)

// Run mirrors an image set. Without a report the run has ended before its end; what is staged
// serves the next one. With a report, an error says that some images failed or that results could
// not be written, and has their exit code.
func Run(ctx context.Context, o Options) (*Report, error) {
	e, unlock, err := newLocked(o)
	if err != nil {
		return nil, err
	}
	defer unlock()
	p, err := e.collect(ctx)
	if err != nil {
		return nil, err
	}
	dst, err := o.Begin(ctx, o.Config.File)
	if err != nil {
		return nil, err
	}
	has, err := e.compare(ctx, p, dst)
	if err != nil {
		return nil, err
	}
	if err := announce(ctx, p, dst); err != nil {
		return nil, err
	}
	if err := e.fits(ctx, p, dst); err != nil {
		return nil, err
	}
	if err := e.startsForArchive(); err != nil {
		return nil, err
	}
	e.nameCatalogs(ctx, p, p.Images)
	e.o.Events(Event{Kind: Planned, Plan: p})
	report, err := e.execute(ctx, p, dst, has)
	var incomplete *incompleteError
	if err != nil && !errors.As(err, &incomplete) {
		return nil, err
	}
	if err := e.want(ctx, dst, p, report); err != nil {
		e.o.Log.Warn("another workspace may delete at the destination what this one needs", "error", err)
	}
	if err == nil && o.Prune != nil {
		err = e.prune(ctx, p, report)
	}
	unwritten := errors.Join(e.writeResults(report), e.remember(report))
	if err == nil && unwritten == nil && o.Past != nil {
		report.Next, err = e.next(report)
	}
	if incomplete != nil {
		incomplete.Log = report.ErrorFile
	}
	return report, errors.Join(err, unwritten)
}

// DryRun plans an image set, compares the plan with the destination, which keeps nothing of
// it, and writes what oc-mirror's dry run does: the mapping of sources to destinations, the
// list of what is missing, and the cluster's resources. With a plan, an error says that some
// images cannot be mirrored.
func DryRun(ctx context.Context, o Options) (p *plan.Plan, mapping string, err error) {
	e, unlock, err := newLocked(o)
	if err != nil {
		return nil, "", err
	}
	defer unlock()
	p, lacks, err := e.dryRun(ctx)
	if err != nil {
		return nil, "", err
	}
	if err := e.planPrune(ctx, p); err != nil {
		return nil, "", err
	}
	if mapping, err = e.writeDryRun(p, lacks); err != nil {
		return nil, "", err
	}
	if len(p.Failures) > 0 {
		err = incomplete(p.Failures, p.Planned(), true)
	}
	return p, mapping, err
}

// dryRun plans, and finds out what the destination lacks.
func (e *engine) dryRun(ctx context.Context) (p *plan.Plan, lacks map[*plan.Image]bool, err error) {
	if p, err = e.collect(ctx); err != nil {
		return nil, nil, err
	}
	e.nameCatalogs(ctx, p, p.Images)
	dst, err := e.o.Begin(ctx, "dry run of "+e.o.Config.File)
	if err != nil {
		return nil, nil, err
	}
	if _, err = e.compare(ctx, p, dst); err == nil {
		err = announce(ctx, p, dst)
	}
	if err == nil {
		err = e.fits(ctx, p, dst)
	}
	if err == nil {
		lacks, err = e.inventory(e.target(dst)).lacking(ctx, p)
	}
	if abort := dst.Abort(context.WithoutCancel(ctx)); err == nil {
		err = abort
	}
	return p, lacks, err
}

// CheckParallel checks Options.ParallelImages and ParallelLayers. The error has oc-mirror's words.
func CheckParallel(images, layers int) error {
	const text = "the flag parallel-%s must be between the range 1 to %d"
	switch {
	case images < 1 || images > maxParallel:
		return fmt.Errorf(text, "images", maxParallel)
	case layers < 1 || layers > maxParallel:
		return fmt.Errorf(text, "layers", maxParallel)
	}
	return nil
}

// engine mirrors one image set.
type engine struct {
	o         Options
	sources   *reader
	workspace workspace
	catalogs  *catalog.Collector
	starts    starts // what the plan begins with
	// sourceNames are the names of CatalogSources, by the destinations of their catalogs.
	sourceNames map[string]string
	v1          *archivedV1 // nil: no archive of version 1 is published
	pinned      []string    // the files of pinned configurations
}

// newLocked returns an engine whose workspace is locked until unlock is called.
func newLocked(o Options) (e *engine, unlock func(), err error) {
	if e, err = newEngine(o); err != nil {
		return nil, nil, err
	}
	unlock, err = e.lock()
	return e, unlock, err
}

// lock keeps other runs out of the workspace until unlock. Nothing is written for a configuration
// that cannot be mirrored.
func (e *engine) lock() (unlock func(), err error) {
	if err := e.checkPast(); err != nil {
		return nil, err
	}
	if err := e.workspace.check(); err != nil {
		return nil, err
	}
	if e.o.Prune != nil {
		if err := e.checkPrune(); err != nil {
			return nil, err
		}
	}
	if e.o.Locked {
		return func() {}, nil
	}
	return e.workspace.lock(e.o.Now())
}

func newEngine(o Options) (*engine, error) {
	if o.ParallelImages == 0 {
		o.ParallelImages = DefaultParallelImages
	}
	if o.ParallelLayers == 0 {
		o.ParallelLayers = DefaultParallelLayers
	}
	if err := CheckParallel(o.ParallelImages, o.ParallelLayers); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = retry.Sleep
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Events == nil {
		o.Events = func(Event) {}
	}
	e := &engine{o: o, sources: newReader(o.Open), workspace: workspace{o.Workspace}}
	if o.ArchiveV1 != nil {
		if err := e.publishV1(); err != nil {
			return nil, err
		}
	}
	e.catalogs = e.newCatalogs()
	return e, nil
}
