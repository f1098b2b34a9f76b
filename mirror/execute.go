package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// compare sets what the destination lacks of a plan.
func (e *engine) compare(ctx context.Context, p *plan.Plan, dst Destination) (map[*plan.Image]*answer, error) {
	return e.inventory(e.target(dst)).compare(ctx, p)
}

// execute copies what the destination does not have, verifies that all of the plan exists there,
// and commits. has is what compare has returned. The report is complete also when there is an error; an *incompleteError means that
// some images failed and the others were committed. When ctx ends nothing is committed.
func (e *engine) execute(ctx context.Context, p *plan.Plan, dst Destination, has map[*plan.Image]*answer) (*Report, error) {
	started := e.o.Now()
	t := e.target(dst)
	x := &execution{engine: e, target: t, inventory: e.inventory(t),
		blobs: map[digest.Digest]*shared{}, failed: map[*plan.Image]error{}}
	x.recordSources(ctx, p)
	first, catalogs, last := x.inOrder(p.Images)
	if x.copyAll(ctx, first, has) {
		x.verify(ctx, first)
	}
	x.amendCatalogs(ctx, p, first)
	last = append(x.complete(catalogs), last...)
	copied := x.copyAll(ctx, last, nil)
	if err := ctx.Err(); err != nil {
		return e.report(p, started, x.failures(p)), err
	}
	if copied {
		x.verify(ctx, last)
	}
	x.spread(p)
	err := x.finish(ctx, p)
	report := e.report(p, started, x.failures(p))
	switch {
	case err != nil && hint.Of(err) == "":
		return report, hint.New(err, "run the same command again: what has arrived is not fetched again")
	case err != nil:
		return report, err
	case len(report.Failures) > 0:
		return report, incomplete(report.Failures, report.Planned, false)
	}
	return report, nil
}

// execution is one run of a plan.
type execution struct {
	*engine
	*target
	inventory *inventory

	mu     sync.Mutex                // guards the maps; not held over I/O
	blobs  map[digest.Digest]*shared // of the images under way
	failed map[*plan.Image]error
}

// atOnce is for how many images a destination is asked, or tagged, at once.
const atOnce = 1000

// recordSources gives the destination the sources of content, if it records them. A mirror
// without them is complete.
func (x *execution) recordSources(ctx context.Context, p *plan.Plan) {
	recorder, ok := x.dst.(sourceRecorder)
	if !ok {
		return
	}
	from, known := map[string][]string{}, map[[2]string]bool{}
	for _, i := range p.Images {
		if madeHere(i) || i.Reference.IsLayout() {
			continue
		}
		name := i.Reference.Registry() + "/" + i.Reference.Repository()
		if pair := [2]string{i.Repository, name}; !known[pair] {
			known[pair] = true
			from[i.Repository] = append(from[i.Repository], name)
		}
	}
	if err := recorder.Source(ctx, from); err != nil {
		x.log.Warn("the destination did not record where images come from", "error", err)
	}
}

// each works on images, ParallelImages at a time, with what the destination has of them: it is asked
// unless has is not nil.
func (x *execution) each(ctx context.Context, images []*plan.Image, has map[*plan.Image]*answer, work func(image *plan.Image, has *answer) error) {
	var g errgroup.Group
	g.SetLimit(x.o.ParallelImages)
	for some := range slices.Chunk(images, atOnce) {
		answers := make([]*answer, len(some))
		for i, image := range some {
			answers[i] = has[image]
		}
		if has == nil {
			answers = x.inventory.of(ctx, some)
		}
		for i, image := range some {
			if ctx.Err() != nil {
				break
			}
			g.Go(func() error {
				if err := work(image, answers[i]); err != nil {
					x.fail(image, err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // each image has its own error
}

// inOrder returns the images that are copied and verified first, and those that come after them:
// operator catalogs, which lack bundles whose images failed, and the payloads of releases, if the
// destination may collect what is not tagged for long.
func (x *execution) inOrder(images []*plan.Image) (first, catalogs, last []*plan.Image) {
	_, keeps := x.dst.(keeper)
	for _, image := range images {
		switch {
		case image.Type == plan.OperatorCatalog:
			catalogs = append(catalogs, image)
		case keeps && image.Type.Class().Last:
			last = append(last, image)
		default:
			first = append(first, image)
		}
	}
	return first, catalogs, last
}

// copyAll copies images, with what the destination is known to have, and reports whether something
// was missing, so that it has changed since it was asked.
func (x *execution) copyAll(ctx context.Context, images []*plan.Image, has map[*plan.Image]*answer) (changed bool) {
	var missing atomic.Bool
	x.each(ctx, images, has, func(image *plan.Image, has *answer) error {
		x.o.Events(Event{Kind: Started, Image: image})
		err, kind := has.err, Done
		if err == nil {
			within, done := x.watch(ctx)
			kind, err = x.copyImage(within, image, has)
			err = stalled(within, err)
			done()
		}
		if err != nil {
			kind = Failed
		}
		if kind != Existed {
			missing.Store(true)
		}
		x.o.Events(Event{Kind: kind, Image: image, Err: err})
		return err
	})
	return missing.Load()
}

func (x *execution) fail(image *plan.Image, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed[image] == nil {
		x.failed[image] = err
	}
}

// failure returns the error that an image failed with, or nil.
func (x *execution) failure(image *plan.Image) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.failed[image]
}

// consequence is the error of an image that is complete itself and part of a release that is not.
type consequence struct{ release string }

func (e *consequence) Error() string {
	return "release " + e.release + " is incomplete, so its payload is not tagged"
}

// spread adds the error of an incomplete release to those of its images that have none.
func spread(images []*plan.Image, errs map[*plan.Image]error) {
	broken := map[string]bool{}
	for _, image := range images {
		if image.Type.Class().Whole && errs[image] != nil {
			broken[image.Release] = true
		}
	}
	for _, image := range images {
		if image.Type.Class().Whole && broken[image.Release] && errs[image] == nil {
			errs[image] = &consequence{image.Release}
		}
	}
}

// failures returns the failures of images with errors.
func failures(images []*plan.Image, errs map[*plan.Image]error) []plan.Failure {
	var all []plan.Failure
	for _, image := range images {
		if errs[image] == nil {
			continue
		}
		f := plan.Failed(image, errs[image])
		f.Incomplete = bundles(image)
		if image.Type.Class().Whole {
			f.Incomplete = "release " + image.Release
			_, f.Consequence = errs[image].(*consequence)
		}
		all = append(all, f)
	}
	return all
}

// finish tags and commits what is complete.
func (x *execution) finish(ctx context.Context, p *plan.Plan) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	// Another run may have taken a name meanwhile.
	x.nameCatalogs(ctx, p, x.complete(p.Images))
	if err := x.recordOrigins(ctx, p); err != nil {
		return err
	}
	for some := range slices.Chunk(x.complete(p.Images), atOnce) {
		tags := map[string]map[string]digest.Digest{}
		for _, image := range some {
			if tags[image.Repository] == nil {
				tags[image.Repository] = map[string]digest.Digest{}
			}
			maps.Copy(tags[image.Repository], image.Tags())
		}
		if err := x.repeat(ctx, "tag", func() error { return x.dst.Tag(ctx, tags) }); err != nil {
			return fmt.Errorf("tag: %w", err)
		}
	}
	if err := x.putOriginals(ctx); err != nil {
		return err
	}
	if d, ok := x.dst.(lister); ok {
		d.Lacks(x.failures(p))
	}
	if err := x.pinArchive(p); err != nil {
		return err
	}
	if err := x.repeat(ctx, "commit", func() error { return x.dst.Commit(ctx) }); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// complete returns the images that have not failed.
func (x *execution) complete(images []*plan.Image) []*plan.Image {
	return slices.DeleteFunc(slices.Clone(images), func(image *plan.Image) bool { return x.failure(image) != nil })
}

// verify asks the destination once more for every digest of some images, before a release is tagged
// or the run is committed.
func (x *execution) verify(ctx context.Context, images []*plan.Image) {
	if ctx.Err() != nil {
		return
	}
	x.each(ctx, x.complete(images), nil, func(image *plan.Image, has *answer) error {
		if has.err != nil {
			return fmt.Errorf("verify: %w", has.err)
		}
		for _, m := range image.All() {
			if !has.complete(image.Repository, m) {
				return fmt.Errorf("verify manifest %s: it is not there, or not all of its blobs, though they were put", m.Descriptor.Digest)
			}
		}
		return nil
	})
}

// failures lists what failed while planning and while copying.
func (x *execution) failures(p *plan.Plan) []plan.Failure {
	x.mu.Lock()
	defer x.mu.Unlock()
	return append(append([]plan.Failure{}, p.Failures...), failures(p.Images, x.failed)...)
}

// spread makes releases fail as a whole.
func (x *execution) spread(p *plan.Plan) {
	x.mu.Lock()
	defer x.mu.Unlock()
	spread(p.Images, x.failed)
}
