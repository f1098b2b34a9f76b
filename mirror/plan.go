package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Type is what kind of image one is, in oc-mirror's words.
type Type string

// The types that are built.
const (
	TypeRelease        Type = "ocpRelease"
	TypeReleaseContent Type = "ocpReleaseContent"
	TypeGeneric        Type = "generic"
)

// Image is one image of a plan.
type Image struct {
	Type   Type   `json:"type"`
	Origin string `json:"origin"` // as the configuration or the release names it
	Why    string `json:"why"`    // what asks for it
	// Repository and Tag are where it goes, below the destination's registry.
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	// Release is the release that it is a part of, such as 4.18.2-x86_64; empty for other images.
	Release string `json:"release,omitempty"`

	Digest    digest.Digest `json:"digest,omitempty"`
	Manifests []Manifest    `json:"manifests,omitempty"` // children before those that name them, the root last

	source imageset.Reference
}

// Manifest is one manifest of an image, and the blobs it is made of.
type Manifest struct {
	Descriptor ocispec.Descriptor   `json:"descriptor"`
	Blobs      []ocispec.Descriptor `json:"blobs,omitempty"`

	body      []byte
	elsewhere int // layers that are not among the blobs
}

// Source is the reference that the image is pulled by.
func (i *Image) Source() string { return i.source.Pull() }

// Plan is everything that a run is going to do.
type Plan struct {
	Images   []*Image  `json:"images"`
	Failures []Failure `json:"failures"` // what could not be planned; the rest can be done
	Warnings []string  `json:"warnings,omitempty"`
	Bytes    int64     `json:"bytes"`   // of all distinct blobs
	Missing  int64     `json:"missing"` // of those that the destination does not hold
	Blobs    int       `json:"blobs"`
	Registry string    `json:"registry"`
}

// Failure is an image that is not, or not completely, at its destination.
type Failure struct {
	Image      *Image `json:"image"`
	Error      string `json:"error"`
	Incomplete string `json:"incomplete,omitempty"` // what it makes incomplete

	err error
}

// Plan resolves the image set against its upstreams. Nothing is written but the working directory's copies of what
// was read. A release that cannot be resolved is an error; so is an image set of which nothing can be planned.
func (e *Engine) Plan(ctx context.Context) (*Plan, error) {
	if err := e.refuseUnbuilt(); err != nil {
		return nil, err
	}
	if err := e.prepareWorkspace(); err != nil {
		return nil, err
	}
	p := &Plan{Registry: e.o.Registry, Failures: []Failure{}, Warnings: slices.Clone(e.o.Config.Warnings)}
	if err := e.planReleases(ctx, p); err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, classed(exitRelease, err)
	}
	e.planAdditional(p)
	if err := e.block(p); err != nil {
		return nil, err
	}
	if len(p.Images) == 0 {
		return nil, &Error{err: errors.New("no images to copy"), hint: "check platform.channels, additionalImages and blockedImages of " + e.o.Config.File}
	}
	if err := e.collisions(p); err != nil {
		return nil, err
	}
	if err := e.readAll(ctx, p); err != nil {
		return nil, err
	}
	p.total()
	p.warnOfForeign()
	return p, nil
}

func (e *Engine) planAdditional(p *Plan) {
	for i, a := range e.o.Config.Mirror.AdditionalImages {
		ref, err := imageset.ParseReference(a.Name)
		image := &Image{Type: TypeGeneric, Origin: a.Name, Why: e.o.Config.At(fmt.Sprintf("mirror.additionalImages[%d]", i)), source: ref}
		if err != nil {
			p.Failures = append(p.Failures, Failure{Image: image, Error: err.Error(), err: err})
			continue
		}
		repo, tag := ref.Path, ref.Tag
		if tag == "" {
			tag = ref.Digest.Algorithm().String() + "-" + ref.Digest.Encoded()
		}
		if a.TargetRepo != "" {
			repo = a.TargetRepo
		}
		if a.TargetTag != "" {
			tag = a.TargetTag
		}
		if ref.Tag != "" && ref.Digest != "" {
			p.Warnings = append(p.Warnings, a.Name+" has a tag and a digest: it is pulled by digest and pushed by tag")
		}
		image.Repository, image.Tag = e.repository(repo), tag
		p.Images = append(p.Images, image)
	}
}

func (e *Engine) repository(path string) string {
	if e.o.Prefix == "" {
		return path
	}
	return e.o.Prefix + "/" + path
}

// destination is the whole name of where an image goes.
func (e *Engine) destination(i *Image) string {
	return e.o.Registry + "/" + i.Repository + ":" + i.Tag
}

// readAll reads the manifests of all images. What cannot be read of an additional image is a failure of that image;
// of a release it is an error, since without it the release is not one. All that is not there is named at once; any
// other failure of a release ends the reading, since a registry that is down is down for the rest too.
func (e *Engine) readAll(ctx context.Context, p *Plan) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(e.o.ParallelImages)
	errs := make([]error, len(p.Images))
	for i, image := range p.Images {
		if image.Manifests != nil {
			continue
		}
		g.Go(func() error {
			errs[i] = e.readImage(within, image)
			e.o.Events(Event{Kind: Resolved, Image: image, Err: errs[i]})
			if image.Release != "" && errs[i] != nil && !errors.Is(errs[i], fs.ErrNotExist) {
				return absent(image, errs[i])
			}
			return nil
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return classed(exitRelease, err)
	}
	readable := []*Image{}
	var missing []error
	for i, image := range p.Images {
		switch {
		case errs[i] == nil:
			readable = append(readable, image)
		case image.Release != "":
			missing = append(missing, absent(image, errs[i]))
		default:
			p.Failures = append(p.Failures, Failure{Image: image, Error: errs[i].Error(), err: errs[i]})
		}
	}
	p.Images = readable
	return classed(exitRelease, errors.Join(missing...))
}

// absent is what a release lacks.
func absent(image *Image, err error) error {
	return fmt.Errorf("%s, %s: %w", image.Origin, image.Why, err)
}

// readImage walks an image's manifests.
func (e *Engine) readImage(ctx context.Context, image *Image) error {
	registry, repo := image.source.Registry(), image.source.Repository()
	w := &walk{seen: map[digest.Digest]bool{}, fetch: func(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
		return e.manifest(ctx, registry, repo, ref)
	}}
	root, err := w.manifest(ctx, image.source.Ref(), 0)
	if err != nil {
		return err
	}
	image.Digest, image.Manifests = root, w.manifests
	return nil
}

// maxDepth bounds indexes of indexes, maxManifests and maxImage what one image can make us fetch and keep.
const (
	maxDepth     = 5
	maxManifests = 1000
	maxImage     = 64 << 20 // bytes of its manifests
)

// walk collects the manifests below one.
type walk struct {
	fetch     func(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error)
	seen      map[digest.Digest]bool
	manifests []Manifest
	bytes     int
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
	for _, r := range m.References {
		if r.Kind != image.Child || w.seen[r.Digest] {
			continue
		}
		if _, err := w.manifest(ctx, r.Digest.String(), depth+1); err != nil {
			return "", err
		}
	}
	w.manifests = append(w.manifests, newManifest(desc, body, m))
	return desc.Digest, nil
}

func newManifest(desc ocispec.Descriptor, body []byte, m image.Manifest) Manifest {
	manifest := Manifest{Descriptor: desc, body: body}
	for _, r := range m.Copied() {
		manifest.Blobs = append(manifest.Blobs, ocispec.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size})
	}
	for _, r := range m.References {
		if r.URLs {
			manifest.elsewhere++
		}
	}
	return manifest
}

// Incomplete is the error of a plan that lacks images which could not be planned, nil if there are none.
func (p *Plan) Incomplete() error {
	e := incomplete(p.Failures, len(p.Images)+len(p.Failures))
	if e == nil {
		return nil
	}
	e.unplanned = true
	return e
}

// warnOfForeign names the images that are not whole without what is elsewhere.
func (p *Plan) warnOfForeign() {
	for _, i := range p.Images {
		n := 0
		for _, m := range i.Manifests {
			n += m.elsewhere
		}
		if n > 0 {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: foreign layers, %d of them, are not copied: clients fetch them from the URLs in its manifests", i.Origin, n))
		}
	}
}

// total sums what is distinct.
func (p *Plan) total() {
	p.Blobs, p.Bytes = 0, 0
	for _, b := range p.blobs() {
		p.Blobs++
		p.Bytes += b.Size
	}
	p.Missing = p.Bytes
}

// blobs are the plan's distinct blobs, each with the first of the repositories that it goes to.
func (p *Plan) blobs() iter.Seq2[string, ocispec.Descriptor] {
	return func(yield func(string, ocispec.Descriptor) bool) {
		seen := map[digest.Digest]bool{}
		for _, i := range p.Images {
			for _, m := range i.Manifests {
				for _, b := range m.Blobs {
					if seen[b.Digest] {
						continue
					}
					seen[b.Digest] = true
					if !yield(i.Repository, b) {
						return
					}
				}
			}
		}
	}
}

// comparedAtOnce is how many blobs Compare asks for in one go, so that what it keeps is bounded.
const comparedAtOnce = 10000

// Compare asks the destination what it holds of the plan, and sets Missing. What it cannot say of a repository counts as
// missing, and what only other repositories there have as held; a destination that can say nothing is an error.
func (e *Engine) Compare(ctx context.Context, p *Plan, dst Destination) error {
	missing := p.Bytes
	ask, sizes := map[string][]digest.Digest{}, map[digest.Digest]int64{}
	compare := func() error {
		held, unconfirmed, err := e.heldOf(ctx, dst, ask)
		if err != nil {
			return fmt.Errorf("ask the destination what it holds: %w", err)
		}
		for _, there := range []map[place]bool{places(held), places(unconfirmed)} {
			for p := range there {
				missing -= sizes[p.digest]
			}
		}
		clear(ask)
		clear(sizes)
		return nil
	}
	for repo, b := range p.blobs() {
		ask[repo], sizes[b.Digest] = append(ask[repo], b.Digest), b.Size
		if len(sizes) == comparedAtOnce {
			if err := compare(); err != nil {
				return err
			}
		}
	}
	if err := compare(); err != nil {
		return err
	}
	p.Missing = missing
	return nil
}

// heldOf asks for blobs; where the destination cannot say it of all, for those of each repository.
func (e *Engine) heldOf(ctx context.Context, dst Destination, blobs map[string][]digest.Digest) (held, unconfirmed map[string][]digest.Digest, err error) {
	err = e.insist(ctx, "ask for blobs", func() (err error) {
		held, _, unconfirmed, err = dst.Held(ctx, blobs, nil)
		return err
	})
	if err == nil || len(blobs) < 2 {
		return held, unconfirmed, err
	}
	held, unconfirmed = map[string][]digest.Digest{}, map[string][]digest.Digest{}
	answered := false
	for repo, ds := range blobs {
		own, _, others, errOwn := dst.Held(ctx, map[string][]digest.Digest{repo: ds}, nil)
		if ctx.Err() != nil {
			return nil, nil, ctx.Err()
		}
		if errOwn == nil {
			answered = true
			maps.Copy(held, own)
			maps.Copy(unconfirmed, others)
		}
	}
	if !answered {
		return nil, nil, err
	}
	return held, unconfirmed, nil
}
