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

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// attempts is how often a destination is asked or given the same while its side fails. An upstream's failures have been
// retried by its client already, and what is refused is refused the next time too.
const attempts = 3

// refusal is an error of a destination that has answered and may have said no for good: its disk is full, say.
type refusal interface {
	error
	Refused() bool
}

// Execute fetches what the destination does not hold, verifies that all of the plan is there, and commits. The report
// is complete also when there is an error; an *IncompleteError says that some images failed and the others were
// committed. When ctx ends nothing is committed, and what was staged serves the next run.
func (e *Engine) Execute(ctx context.Context, p *Plan, dst Destination) (*Report, error) {
	started := e.o.Now()
	x := &execution{Engine: e, dst: dst, blobs: map[digest.Digest]*shared{}, failed: map[*Image]error{}, confirmed: map[origin]bool{}}
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
	if e := incomplete(report.Failures, report.Planned); e != nil {
		return report, e
	}
	return report, nil
}

// execution is one run of a plan.
type execution struct {
	*Engine
	dst Destination

	mu        sync.Mutex                // guards the maps; not held over I/O
	blobs     map[digest.Digest]*shared // of the images under way
	failed    map[*Image]error
	confirmed map[origin]bool // what sources have said that they have
}

// atOnce is for how many images a destination is asked, or tagged, in one go.
const atOnce = 1000

// sourceRecorder is a destination that remembers, by repository, where things come from (as in quay.io/org/image), to ask
// there again when one is damaged.
type sourceRecorder interface {
	Source(ctx context.Context, from map[string][]string) error
}

// recordSources tells the destination, if it wants to know. Without it the mirror is as good.
func (x *execution) recordSources(ctx context.Context, p *Plan) {
	recorder, ok := x.dst.(sourceRecorder)
	if !ok {
		return
	}
	from, known := map[string][]string{}, map[[2]string]bool{}
	for _, i := range p.Images {
		name := i.source.Registry() + "/" + i.source.Repository()
		if pair := [2]string{i.Repository, name}; !known[pair] {
			known[pair] = true
			from[i.Repository] = append(from[i.Repository], name)
		}
	}
	if err := recorder.Source(ctx, from); err != nil {
		x.o.Log.Warn("the destination did not record where images come from", "error", err)
	}
}

// place is where something is, or is to be: for most destinations what is held in one repository is not in another.
type place struct {
	repository string
	digest     digest.Digest
}

// places are those that an answer of Destination.Held lists.
func places(held map[string][]digest.Digest) map[place]bool {
	all := map[place]bool{}
	for repository, ds := range held {
		for _, d := range ds {
			all[place{repository, d}] = true
		}
	}
	return all
}

// asked is what a destination is to be asked for, each once.
type asked map[place]bool

// byRepository gives it in the form that Destination.Held takes.
func (a asked) byRepository() map[string][]digest.Digest {
	all := map[string][]digest.Digest{}
	for p := range a {
		all[p.repository] = append(all[p.repository], p.digest)
	}
	return all
}

// held asks which manifests of some images the destination holds. Not every registry sees to it that one that it has is
// whole, so it is asked for their blobs too.
func (x *execution) held(ctx context.Context, images ...*Image) (map[place]bool, error) {
	blobs, manifests := asked{}, asked{} // one digest can be wanted as both
	for _, image := range images {
		for _, m := range image.Manifests {
			manifests[place{image.Repository, m.Descriptor.Digest}] = true
			for _, b := range m.Blobs {
				blobs[place{image.Repository, b.Digest}] = true
			}
		}
	}
	heldBlobs, heldManifests, _, err := x.dst.Held(ctx, blobs.byRepository(), manifests.byRepository())
	if err != nil {
		return nil, fmt.Errorf("ask the destination what it holds: %w", err)
	}
	there, whole := places(heldBlobs), places(heldManifests)
	for _, image := range images {
		for _, m := range image.Manifests {
			if slices.ContainsFunc(m.Blobs, func(b ocispec.Descriptor) bool { return !there[place{image.Repository, b.Digest}] }) {
				delete(whole, place{image.Repository, m.Descriptor.Digest})
			}
		}
	}
	return whole, nil
}

// each works on images, ParallelImages at a time, with which of their manifests are held, or why that is not known. When the
// destination cannot say it of many images at once it is asked for each, so that the trouble with one stays its own.
func (x *execution) each(ctx context.Context, images []*Image, work func(image *Image, held map[place]bool, err error) error) {
	var g errgroup.Group
	g.SetLimit(x.o.ParallelImages)
	for some := range slices.Chunk(images, atOnce) {
		var held map[place]bool
		err := x.insist(ctx, "ask what it holds", func() (err error) {
			held, err = x.held(ctx, some...)
			return err
		})
		if ctx.Err() != nil {
			break
		}
		for _, image := range some {
			if ctx.Err() != nil {
				break
			}
			g.Go(func() error {
				own, err := held, err
				if err != nil {
					own, err = x.held(ctx, image)
				}
				if err := work(image, own, err); err != nil {
					x.fail(image, err)
				}
				return nil
			})
		}
	}
	_ = g.Wait() // each has kept its own error
}

func (x *execution) copyAll(ctx context.Context, p *Plan) {
	x.each(ctx, p.Images, func(image *Image, held map[place]bool, err error) error {
		x.o.Events(Event{Kind: Started, Image: image})
		allHeld := false
		if err == nil {
			allHeld, err = x.copyImage(ctx, image, held)
		}
		switch {
		case err != nil:
			x.o.Events(Event{Kind: Failed, Image: image, Err: err})
		case allHeld:
			x.o.Events(Event{Kind: Held, Image: image})
		default:
			x.o.Events(Event{Kind: Done, Image: image})
		}
		return err
	})
}

func (x *execution) fail(image *Image, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.failed[image] == nil {
		x.failed[image] = err
	}
}

// copyImage brings over the image's manifests that are not held, in order: children come before those that name them. It says
// whether all of them were held already.
func (x *execution) copyImage(ctx context.Context, image *Image, held map[place]bool) (allHeld bool, err error) {
	missing := slices.DeleteFunc(slices.Clone(image.Manifests), func(m Manifest) bool {
		return held[place{image.Repository, m.Descriptor.Digest}]
	})
	if len(missing) == 0 {
		return true, nil
	}
	blobs := distinct(missing)
	defer x.share(blobs)()
	there, err := x.heldBlobs(ctx, image, blobs...)
	if err != nil {
		return false, err
	}
	for _, m := range missing {
		if err := x.copyBlobs(ctx, image, m.Blobs, there); err != nil {
			return false, err
		}
		what := "put manifest " + m.Descriptor.Digest.String()
		err := x.insist(ctx, what, func() error { return x.dst.PutManifest(ctx, image.Repository, m.Descriptor, m.body) })
		if err != nil {
			return false, fmt.Errorf("%s: %w", what, err)
		}
	}
	return false, nil
}

// distinct are the blobs of some manifests, each once.
func distinct(manifests []Manifest) []ocispec.Descriptor {
	var all []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, m := range manifests {
		for _, b := range m.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b)
			}
		}
	}
	return all
}

// copyBlobs brings over those blobs of a manifest that are not there yet, and notes that they are.
func (x *execution) copyBlobs(ctx context.Context, image *Image, blobs []ocispec.Descriptor, there map[place]bool) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(x.o.ParallelLayers)
	for _, b := range blobs {
		if !there[place{image.Repository, b.Digest}] {
			g.Go(func() error { return x.copyBlob(within, image, b) })
		}
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, b := range blobs {
		there[place{image.Repository, b.Digest}] = true
	}
	return nil
}

// failure is what an image failed with, or nil.
func (x *execution) failure(image *Image) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.failed[image]
}

// copyBlob brings over a blob that was not held, unless another image has done so since.
func (x *execution) copyBlob(ctx context.Context, image *Image, b ocispec.Descriptor) error {
	blob := x.shared(b.Digest)
	select {
	case <-blob.free:
		defer func() { blob.free <- struct{}{} }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if blob.put {
		held, err := x.heldBlobs(ctx, image, b)
		if err != nil || held[place{image.Repository, b.Digest}] {
			return err
		}
	}
	if err := x.fetch(ctx, image, b); err != nil {
		return err
	}
	blob.put = true
	return nil
}

// fetch brings a blob over.
func (x *execution) fetch(ctx context.Context, image *Image, b ocispec.Descriptor) error {
	client, err := x.client(image.source.Registry())
	if err != nil {
		return err
	}
	return x.insist(ctx, "put blob "+b.Digest.String(), func() error { return x.transfer(ctx, client, image, b) })
}

// insist does what a destination may be asked for again, and again while the destination's side fails: one connection
// that drops must not leave a release incomplete.
func (e *Engine) insist(ctx context.Context, what string, do func() error) error {
	return retry.Policy{
		Attempts: attempts, First: 2 * time.Second, Sleep: e.o.Sleep,
		Again: func(err error) (bool, time.Duration) {
			var source *upstream.Error
			var no refusal
			return !errors.As(err, &source) && !(errors.As(err, &no) && no.Refused()), 0
		},
		Notify: func(failures int, err error) {
			e.o.Log.Warn("the destination failed and is tried again", "at", what, "attempt", failures, "error", err)
		},
	}.Do(ctx, do)
}

// transfer moves the bytes straight from the upstream's connection to the destination's.
func (x *execution) transfer(ctx context.Context, client *upstream.Client, image *Image, b ocispec.Descriptor) error {
	ctx, cancel := context.WithCancel(ctx)
	src := &source{ctx: ctx, client: client, repo: image.source.Repository(), blob: b, events: x.o.Events}
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
	ctx    context.Context // reading takes no context of its own
	client *upstream.Client
	repo   string
	blob   ocispec.Descriptor
	events func(Event)

	mu     sync.Mutex // guards the rest; held while reading
	body   io.ReadCloser
	read   int64
	err    error // what reading ended with, other than the end
	closed bool
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, io.ErrClosedPipe
	}
	if s.body == nil && s.err == nil {
		s.body, _, s.err = s.client.Blob(s.ctx, s.repo, s.blob.Digest)
	}
	if s.err != nil {
		return 0, s.err
	}
	n, err := s.body.Read(p)
	s.read += int64(n)
	if n > 0 {
		s.events(Event{Kind: Bytes, Bytes: int64(n)})
	}
	switch {
	case err != nil && !errors.Is(err, io.EOF):
		s.err = err
	case s.read > s.blob.Size, err != nil && s.read < s.blob.Size:
		s.err = s.wrongSize()
		return 0, s.err
	}
	return n, err
}

// wrongSize is a manifest that is wrong about its blob. It is the upstream's fault, and a repetition mends nothing.
func (s *source) wrongSize() error {
	return &upstream.Error{
		Registry: s.client.Registry(), Repository: s.repo, Attempt: "get blob " + s.blob.Digest.String(),
		Err: fmt.Errorf("its manifest gives it %d bytes, the registry %d", s.blob.Size, s.read),
	}
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
	if err := ctx.Err(); err != nil {
		return err
	}
	x.spread(p)
	for some := range slices.Chunk(x.complete(p), atOnce) {
		tags := map[string]map[string]digest.Digest{}
		for _, image := range some {
			if tags[image.Repository] == nil {
				tags[image.Repository] = map[string]digest.Digest{}
			}
			tags[image.Repository][image.Tag] = image.Digest
		}
		if err := x.insist(ctx, "tag", func() error { return x.dst.Tag(ctx, tags) }); err != nil {
			return fmt.Errorf("tag: %w", err)
		}
	}
	if err := x.insist(ctx, "commit", func() error { return x.dst.Commit(ctx) }); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// complete are the images that have not failed.
func (x *execution) complete(p *Plan) []*Image {
	return slices.DeleteFunc(slices.Clone(p.Images), func(image *Image) bool { return x.failure(image) != nil })
}

// verify asks the destination once more for every digest that the plan names, before any tag names it.
func (x *execution) verify(ctx context.Context, p *Plan) {
	x.each(ctx, x.complete(p), func(image *Image, held map[place]bool, err error) error {
		if err != nil {
			return fmt.Errorf("verify: %w", err)
		}
		for _, m := range image.Manifests {
			if !held[place{image.Repository, m.Descriptor.Digest}] {
				return fmt.Errorf("verify manifest %s: it is not there, or not all of its blobs, though they were put", m.Descriptor.Digest)
			}
		}
		return nil
	})
}

// failures lists what failed while planning and while copying.
func (x *execution) failures(p *Plan) []Failure {
	all := append([]Failure{}, p.Failures...)
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
