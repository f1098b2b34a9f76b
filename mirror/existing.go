package mirror

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// place is a digest in a repository of the destination.
type place struct {
	repository string
	digest     digest.Digest
}

// question is what a destination is asked for. One digest can be wanted as a blob
// and as a manifest.
type question struct{ blobs, manifests map[place]bool }

func newQuestion() question { return question{map[place]bool{}, map[place]bool{}} }

// about asks for the manifests of an image and for their blobs: some registries have manifests that
// are incomplete.
func about(image *plan.Image) question {
	q := newQuestion()
	for _, m := range image.All() {
		q.manifests[place{image.Repository, m.Descriptor.Digest}] = true
		for _, b := range m.Blobs {
			q.blobs[place{image.Repository, b.Digest}] = true
		}
	}
	return q
}

// answer is what a destination has of what it was asked for, or the error that it answered with.
type answer struct {
	blobs, manifests, unconfirmed map[place]bool
	err                           error
}

// complete reports whether the destination has a manifest and all of its blobs.
func (a *answer) complete(repository string, m plan.Manifest) bool {
	return a.manifests[place{repository, m.Descriptor.Digest}] &&
		!slices.ContainsFunc(m.Blobs, func(b ocispec.Descriptor) bool { return !a.blobs[place{repository, b.Digest}] })
}

// inventory finds out what a destination has: here and nowhere else is it asked.
type inventory struct {
	*target
	sources  *reader
	parallel int // questions, and requests to a source, under way at once

	mu        sync.Mutex      // guards the rest
	confirmed map[origin]bool // what sources have confirmed
}

// origin is a blob at a source.
type origin struct {
	repository string
	digest     digest.Digest
	size       int64
}

func (e *engine) inventory(t *target) *inventory {
	return &inventory{target: t, sources: e.sources, parallel: e.o.ParallelLayers, confirmed: map[origin]bool{}}
}

// ask asks several questions in one. When the destination cannot answer that, each is asked by
// itself, so that an error stays with the question that it is about. There is an answer to
// each question, in order.
func (v *inventory) ask(ctx context.Context, questions ...question) []*answer {
	all := newQuestion()
	for _, q := range questions {
		maps.Copy(all.blobs, q.blobs)
		maps.Copy(all.manifests, q.manifests)
	}
	var whole *answer
	err := v.repeat(ctx, "ask what it has", func() error {
		whole = v.once(ctx, all)
		return whole.err
	})
	if err == nil || len(questions) < 2 {
		whole.err = err
		return slices.Repeat([]*answer{whole}, len(questions))
	}
	answers := make([]*answer, len(questions))
	var g errgroup.Group
	g.SetLimit(v.parallel)
	for i, q := range questions {
		g.Go(func() error {
			answers[i] = v.once(ctx, q)
			return nil
		})
	}
	_ = g.Wait() // each answer has its own error
	return answers
}

func (v *inventory) once(ctx context.Context, q question) *answer {
	blobs, manifests, unconfirmed, err := v.dst.Existing(ctx, byRepository(q.blobs), byRepository(q.manifests))
	if err != nil {
		return &answer{err: fmt.Errorf("ask the destination what it has: %w", err)}
	}
	return &answer{blobs: places(blobs), manifests: places(manifests), unconfirmed: places(unconfirmed)}
}

// byRepository and places convert to and from the form of Destination.
func byRepository(all map[place]bool) map[string][]digest.Digest {
	var lists map[string][]digest.Digest
	for p := range all {
		if lists == nil {
			lists = map[string][]digest.Digest{}
		}
		lists[p.repository] = append(lists[p.repository], p.digest)
	}
	return lists
}

func places(lists map[string][]digest.Digest) map[place]bool {
	all := map[place]bool{}
	for repository, ds := range lists {
		for _, d := range ds {
			all[place{repository, d}] = true
		}
	}
	return all
}

// of asks for some images at once. There is an answer to each, in order.
func (v *inventory) of(ctx context.Context, images []*plan.Image) []*answer {
	questions := make([]question, len(images))
	for i, image := range images {
		questions[i] = about(image)
	}
	return v.ask(ctx, questions...)
}

// compare sets what the destination lacks of a plan. The blobs of an image that it cannot answer for
// count as missing, and those that only other repositories have as existing. A destination that
// answers for none is an error. compare returns the answers by image, or nil if they are more than are
// kept or one is an error.
func (v *inventory) compare(ctx context.Context, p *plan.Plan) (map[*plan.Image]*answer, error) {
	p.There = map[digest.Digest]bool{}
	defer p.Measure()
	all, keep := map[*plan.Image]*answer{}, len(p.Images) <= atOnce
	for some := range slices.Chunk(p.Images, atOnce) {
		var err error
		answered := false
		for i, a := range v.of(ctx, some) {
			if a.err != nil {
				err, keep = a.err, false
				continue
			}
			answered = true
			all[some[i]] = a
			for _, b := range plan.Blobs(some[i].All()) {
				if at := (place{some[i].Repository, b.Digest}); a.blobs[at] || a.unconfirmed[at] {
					p.There[b.Digest] = true
				}
			}
		}
		if answered {
			err = ctx.Err()
		}
		if err != nil {
			return nil, err
		}
		if !keep {
			clear(all)
		}
	}
	if !keep {
		return nil, nil
	}
	return all, nil
}

// blobs returns those of some blobs of an image that the destination has. One that only other
// repositories have counts once the image's source has confirmed it.
func (v *inventory) blobs(ctx context.Context, image *plan.Image, blobs ...ocispec.Descriptor) (map[place]bool, error) {
	q := newQuestion()
	for _, b := range blobs {
		q.blobs[place{image.Repository, b.Digest}] = true
	}
	a := v.ask(ctx, q)[0]
	if a.err != nil {
		return nil, a.err
	}
	confirmed := v.atSource(ctx, image, slices.DeleteFunc(slices.Clone(blobs), func(b ocispec.Descriptor) bool {
		return !a.unconfirmed[place{image.Repository, b.Digest}]
	}))
	if len(confirmed) == 0 {
		return a.blobs, ctx.Err()
	}
	err := v.repeat(ctx, "confirm blobs", func() error {
		staged, err := v.dst.Confirm(ctx, map[string][]ocispec.Descriptor{image.Repository: confirmed})
		maps.Copy(a.blobs, places(staged))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("confirm blobs to the destination: %w", err)
	}
	return a.blobs, nil
}

// atSource returns those of some blobs that the image's source has, with the size that the manifest
// gives them. A manifest may name what its source does not have, and another repository of the
// destination does. A source that does not answer has not confirmed: the blob is fetched, which
// fails as well, or proves it.
func (v *inventory) atSource(ctx context.Context, image *plan.Image, blobs []ocispec.Descriptor) []ocispec.Descriptor {
	has := make([]bool, len(blobs))
	var g errgroup.Group
	g.SetLimit(v.parallel)
	for i, b := range blobs {
		g.Go(func() error {
			has[i] = v.confirms(ctx, image, b)
			return nil
		})
	}
	_ = g.Wait()
	var confirmed []ocispec.Descriptor
	for i, b := range blobs {
		if has[i] {
			confirmed = append(confirmed, b)
		}
	}
	return confirmed
}

// confirms reports whether the image's source has a blob. It asks once in a run.
func (v *inventory) confirms(ctx context.Context, image *plan.Image, b ocispec.Descriptor) bool {
	at := origin{key(image.Reference), b.Digest, b.Size}
	v.mu.Lock()
	known := v.confirmed[at]
	v.mu.Unlock()
	if known {
		return true
	}
	source, err := v.sources.source(image.Reference)
	if err != nil {
		return false
	}
	size, err := source.Stat(ctx, b.Digest)
	if err != nil || size != b.Size {
		return false
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.confirmed[at] = true
	return true
}

// readHeld reads the manifests of an image that is named by digest from the destination, and reports
// whether all are there. What it lacks of their blobs is found out when the image is copied.
func (e *engine) readHeld(ctx context.Context, i *plan.Image) bool {
	if e.o.Held == nil || i.Reference.Digest == "" {
		return false
	}
	w := &walk{
		seen: map[digest.Digest]bool{}, platforms: i.Platforms, found: map[string]bool{},
		fetch: func(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
			desc, body, err := e.o.Held(ctx, i.Repository, ref)
			if err == nil && digest.FromBytes(body).String() != ref {
				err = fmt.Errorf("the destination has another manifest for %s", ref)
			}
			return desc, body, err
		},
	}
	root, err := w.manifest(ctx, i.Reference.Digest.String(), 0)
	if err == nil {
		err = w.complete()
	}
	if err != nil {
		return false
	}
	i.Digest, i.Manifests = root, w.manifests
	return true
}
