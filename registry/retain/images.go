package retain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// needs are what one cluster needs.
type needs struct {
	*pass
	cluster  state.Facts
	digests  map[digest.Digest]bool
	unknown  int // images of which no digest is known
	problems []string
}

func (n *needs) problem(format string, args ...any) {
	n.problems = append(n.problems, fmt.Sprintf(format, args...))
}

// maxProblems is how many problems of a cluster are told.
const maxProblems = 20

// shown returns the first problems.
func (n *needs) shown() []string {
	if more := len(n.problems) - maxProblems; more > 0 {
		return append(n.problems[:maxProblems:maxProblems], fmt.Sprintf("and %d more", more))
	}
	return append([]string{}, n.problems...)
}

// release adds the images of a release.
func (n *needs) release(ctx context.Context, r state.Release) error {
	p := n.pass
	ref, err := imageset.ParseReference(r.Image)
	if err != nil || ref.Digest == "" {
		n.unknown++
		n.problem("release %s is not protected, since it is not named by digest: %s", r.Version, image.Quote(imageset.Shown(r.Image)))
		return nil
	}
	n.digests[ref.Digest], p.used[ref.Digest.String()] = true, true
	all, known := p.components[ref.Digest]
	if !known {
		all, err = p.read(ctx, ref.Digest)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist):
			n.problem("release %s is not here, or not whole: its images are protected once it is", r.Version)
			return nil
		case err != nil:
			n.problem("the images of release %s are not protected, since it cannot be read: %v", r.Version, err)
			return nil
		}
		p.components[ref.Digest] = all
		text, err := json.Marshal(all)
		if err == nil {
			err = p.Store.SetNote(ctx, noted+ref.Digest.String(), string(text))
		}
		if err != nil {
			return err
		}
	}
	for _, d := range all {
		n.digests[d] = true
	}
	return nil
}

// image adds an image by its name. By digest it is needed wherever it is, by tag where the cluster may read it.
func (n *needs) image(ctx context.Context, name string) error {
	ref, err := imageset.ParseImage(name)
	if err != nil {
		n.unknown++
		n.problem("an image that it needs is not protected, since its name cannot be read: %s", image.Quote(imageset.Shown(name)))
		return nil
	}
	if ref.Digest != "" {
		n.digests[ref.Digest] = true
		return nil
	}
	found, err := n.mayMirror(ctx, ref)
	if err != nil {
		return err
	}
	led, err := n.led(ctx, ref)
	if err != nil {
		return err
	}
	found = slices.Concat(found, led)
	if len(found) == 0 {
		n.unknown++
		n.problem("image %s is not here: it is protected once it is", ref.Pull())
	}
	for _, d := range found {
		n.digests[d] = true
	}
	return nil
}

// led returns what the mirrors of a cluster have for an image with a tag.
func (n *needs) led(ctx context.Context, ref imageset.Reference) ([]digest.Digest, error) {
	var places []mirror.Place
	for _, repository := range n.cluster.Tags.Repositories(n.Registry, ref.Canonical()) {
		places = append(places, mirror.Place{Repository: repository, Reference: ref.Tag})
	}
	return n.resolve(ctx, places)
}

// mayMirror returns what is here of an image with a tag: where a run has put it, and, since other programs record
// no origin, wherever a mirror may put it.
func (p *pass) mayMirror(ctx context.Context, ref imageset.Reference) ([]digest.Digest, error) {
	name := ref.Canonical() + ":" + ref.Tag
	found, ok := p.tagged[name]
	if ok {
		return found, nil
	}
	places, err := p.present.Places(ctx, ref.Pull())
	if err != nil {
		return nil, err
	}
	all, err := p.Store.Tags.Matching(ctx, "*"+path.Base(ref.Path), ref.Tag)
	if err != nil {
		return nil, err
	}
	for _, t := range all {
		if mirror.MayMirror(t.Repository, ref.Path) {
			found = append(found, t.Digest)
		}
	}
	some, err := p.resolve(ctx, places)
	if err != nil {
		return nil, err
	}
	p.tagged[name] = slices.Concat(found, some)
	return p.tagged[name], nil
}

// resolve returns what is in those of some places that exist.
func (p *pass) resolve(ctx context.Context, places []mirror.Place) (found []digest.Digest, err error) {
	for _, at := range places {
		d, known := p.resolved[at]
		if !known {
			d, err = stored.Repository{Store: p.Store, Name: at.Repository}.Resolve(ctx, at.Reference)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return nil, err
			}
			p.resolved[at] = d
		}
		if d != "" {
			found = append(found, d)
		}
	}
	return found, nil
}
