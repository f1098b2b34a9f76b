package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// putAttempts is how often a blob is put while the destination's side fails. An upstream's failures have been retried
// by its client already.
const putAttempts = 3

// Execute fetches what the destination does not hold, verifies that all of the plan is there, and commits. The report
// is complete also when there is an error; an *IncompleteError says that some images failed and the others were
// committed. When ctx ends nothing is committed, and what was staged serves the next run.
func (e *Engine) Execute(ctx context.Context, p *Plan, dst Destination) (*Report, error) {
	started := e.o.Now()
	x := &execution{Engine: e, dst: dst, busy: map[digest.Digest]*sync.Mutex{}, failed: map[*Image]error{}}
	x.recordSources(ctx, p)
	x.copyAll(ctx, p)
	if err := ctx.Err(); err != nil {
		return e.report(p, started, x.failures(p)), err
	}
	x.spread(p)
	if err := x.finish(ctx, p); err != nil {
		return e.report(p, started, x.failures(p)), &Error{err: err, code: exitGeneric, hint: "run the same command again: what has arrived is not fetched again"}
	}
	report := e.report(p, started, x.failures(p))
	return report, report.incomplete()
}

// execution is one run of a plan.
type execution struct {
	*Engine
	dst Destination

	mu     sync.Mutex // guards both maps; not held over I/O
	busy   map[digest.Digest]*sync.Mutex
	failed map[*Image]error
}

// sourceRecorder is a destination that remembers where things come from, to ask there again when one is damaged.
type sourceRecorder interface {
	Source(ctx context.Context, repo, registry, path string) error
}

// recordSources tells the destination, if it wants to know. Without it the mirror is as good.
func (x *execution) recordSources(ctx context.Context, p *Plan) {
	recorder, ok := x.dst.(sourceRecorder)
	if !ok {
		return
	}
	told := map[[3]string]bool{}
	for _, i := range p.Images {
		what := [3]string{i.Repository, i.source.Registry(), i.source.Repository()}
		if told[what] || ctx.Err() != nil {
			continue
		}
		told[what] = true
		if err := recorder.Source(ctx, what[0], what[1], what[2]); err != nil {
			x.o.Log.Warn("the destination did not record where an image comes from", "image", i.Origin, "error", err)
		}
	}
}

func (x *execution) copyAll(ctx context.Context, p *Plan) {
	var g errgroup.Group
	g.SetLimit(x.o.ParallelImages)
	for _, image := range p.Images {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			x.o.Events(Event{Kind: Started, Image: image})
			held, err := x.copyImage(ctx, image)
			switch {
			case err != nil:
				x.fail(image, err)
				x.o.Events(Event{Kind: Failed, Image: image, Err: err})
			case held:
				x.o.Events(Event{Kind: Held, Image: image})
			default:
				x.o.Events(Event{Kind: Done, Image: image})
			}
			return nil
		})
	}
	_ = g.Wait() // each has kept its own error
}

func (x *execution) fail(image *Image, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed[image] == nil {
		x.failed[image] = err
	}
}

// copyImage brings the image's manifests over in order: children come before those that name them. It says whether
// all of them were held already.
func (x *execution) copyImage(ctx context.Context, image *Image) (allHeld bool, err error) {
	allHeld = true
	for _, m := range image.Manifests {
		held, err := x.dst.HasManifest(ctx, image.Repository, m.Descriptor.Digest)
		if err != nil {
			return false, fmt.Errorf("ask the destination for manifest %s: %w", m.Descriptor.Digest, err)
		}
		if held {
			continue
		}
		allHeld = false
		if err := x.copyBlobs(ctx, image, m.Blobs); err != nil {
			return false, err
		}
		if err := x.dst.PutManifest(ctx, image.Repository, m.Descriptor, m.body); err != nil {
			return false, fmt.Errorf("put manifest %s: %w", m.Descriptor.Digest, err)
		}
	}
	return allHeld, nil
}

func (x *execution) copyBlobs(ctx context.Context, image *Image, blobs []ocispec.Descriptor) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(x.o.ParallelLayers)
	for _, b := range blobs {
		g.Go(func() error { return x.copyBlob(ctx, image, b) })
	}
	return g.Wait()
}

// failure is what an image failed with, or nil.
func (x *execution) failure(image *Image) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.failed[image]
}

// copyBlob brings one blob over, unless it is held. Images share layers: while one fetches a blob, the others that
// need it wait and then find it.
func (x *execution) copyBlob(ctx context.Context, image *Image, b ocispec.Descriptor) error {
	one := x.lock(b.Digest)
	one.Lock()
	defer one.Unlock()
	held, err := x.dst.HasBlob(ctx, image.Repository, b.Digest)
	if err != nil {
		return fmt.Errorf("ask the destination for blob %s: %w", b.Digest, err)
	}
	if held {
		return nil
	}
	client, err := x.client(image.source.Registry())
	if err != nil {
		return err
	}
	for attempt := 1; ; attempt++ {
		err = x.transfer(ctx, client, image, b)
		var source *upstream.Error
		if err == nil || ctx.Err() != nil || errors.As(err, &source) || attempt == putAttempts {
			return err
		}
		x.o.Log.Warn("putting a blob failed and is repeated", "blob", b.Digest, "image", image.Origin, "attempt", attempt, "error", err)
		if err := x.o.Sleep(ctx, time.Second<<attempt); err != nil {
			return err
		}
	}
}

func (x *execution) lock(d digest.Digest) *sync.Mutex {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.busy[d] == nil {
		x.busy[d] = new(sync.Mutex)
	}
	return x.busy[d]
}

// transfer moves the bytes straight from the upstream's connection to the destination's.
func (x *execution) transfer(ctx context.Context, client *upstream.Client, image *Image, b ocispec.Descriptor) error {
	ctx, cancel := context.WithCancel(ctx)
	src := &source{events: x.o.Events, open: func() (io.ReadCloser, error) {
		body, _, err := client.Blob(ctx, image.source.Repository(), b.Digest)
		return body, err
	}}
	err := x.dst.PutBlob(ctx, image.Repository, b, src)
	cancel() // which ends a Read that the destination's HTTP client has left under way
	failed := src.close()
	switch {
	case err == nil:
		return nil
	case failed != nil && !errors.Is(failed, context.Canceled):
		err = failed // the source failed; what the destination says of a body that broke off adds nothing
	}
	return fmt.Errorf("copy blob %s: %w", b.Digest, err)
}

// source is a blob at its upstream. It is opened by the first Read: a destination that refuses, or that has the blob
// in another repository, costs the upstream nothing.
type source struct {
	open   func() (io.ReadCloser, error)
	events func(Event)

	mu     sync.Mutex // guards the rest; held while reading
	body   io.ReadCloser
	err    error // what reading ended with, other than the end
	closed bool
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	if s.err != nil {
		return 0, s.err
	}
	if s.body == nil {
		if s.body, s.err = s.open(); s.err != nil {
			return 0, s.err
		}
	}
	n, err := s.body.Read(p)
	if n > 0 {
		s.events(Event{Kind: Bytes, Bytes: int64(n)})
	}
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// close ends reading and says what reading failed with.
func (s *source) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.body != nil {
		_ = s.body.Close() // of a body that was read; its end was verified
	}
	return s.err
}

// incompleteError is an image that is complete itself and part of a release that is not.
type incompleteError struct{ release string }

func (e *incompleteError) Error() string {
	return "release " + e.release + " is incomplete, so none of its tags is set"
}

// spread makes a release fail as a whole.
func (x *execution) spread(p *Plan) {
	broken := map[string]bool{}
	for _, image := range p.Images {
		if image.Release != "" && x.failure(image) != nil {
			broken[image.Release] = true
		}
	}
	for _, image := range p.Images {
		if broken[image.Release] {
			x.fail(image, &incompleteError{image.Release})
		}
	}
}

// finish verifies, tags and commits what is complete.
func (x *execution) finish(ctx context.Context, p *Plan) error {
	x.verify(ctx, p)
	x.spread(p)
	for _, image := range p.Images {
		if x.failure(image) != nil {
			continue
		}
		if err := x.dst.Tag(ctx, image.Repository, image.Tag, image.Digest); err != nil {
			return fmt.Errorf("tag %s: %w", x.destination(image), err)
		}
	}
	if err := x.dst.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// verify asks the destination once more for every digest that the plan names, before any tag names it.
func (x *execution) verify(ctx context.Context, p *Plan) {
	var g errgroup.Group
	g.SetLimit(x.o.ParallelImages)
	for _, image := range p.Images {
		if x.failure(image) != nil {
			continue
		}
		g.Go(func() error {
			for _, m := range image.Manifests {
				held, err := x.dst.HasManifest(ctx, image.Repository, m.Descriptor.Digest)
				if err == nil && !held {
					err = errors.New("it is not there, though it was put")
				}
				if err != nil {
					x.fail(image, fmt.Errorf("verify manifest %s: %w", m.Descriptor.Digest, err))
					return nil
				}
			}
			return nil
		})
	}
	_ = g.Wait()
}

// failures lists what failed while planning and while copying.
func (x *execution) failures(p *Plan) []Failure {
	all := slices.Clone(p.Failures)
	for _, image := range p.Images {
		err := x.failure(image)
		if err == nil {
			continue
		}
		f := Failure{Image: image, Error: err.Error(), err: err}
		if image.Release != "" {
			f.Incomplete = "release " + image.Release
		}
		all = append(all, f)
	}
	return all
}
