package images

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Bounds of what is looked at for the signatures of an image.
const (
	maxMembers = 50
	maxOrigins = 50 // tags by which it is found what an image is a mirror of
)

// Signatures describes the signatures of an image and of those that it lists, as Verify judges them.
func (i *Images) Signatures(ctx context.Context, at api.Place) (a api.ImageSignatures, err error) {
	m, _, err := i.find(ctx, at)
	if err != nil {
		return a, err
	}
	p, err := image.Parse(m.MediaType, m.Body)
	if err != nil {
		return a, err
	}
	a = api.ImageSignatures{Repository: at.Repository, Manifests: []api.SignedManifest{{Digest: m.Digest}}, Origins: []string{}, Signatures: []api.ImageSignature{}}
	var children []digest.Digest
	for _, r := range p.References {
		if r.Kind == image.Child {
			children = append(children, r.Digest)
		}
	}
	held, err := i.Store.Manifests.Held(ctx, at.Repository, children)
	if err != nil {
		return a, err
	}
	for _, r := range p.References {
		if r.Kind == image.Child && held[r.Digest] && len(a.Manifests) <= maxMembers {
			a.Manifests = append(a.Manifests, api.SignedManifest{Digest: r.Digest, Platform: cut(r.Platform)})
		}
	}
	for _, one := range a.Manifests {
		all, err := i.attached(ctx, at.Repository, one.Digest)
		if err != nil {
			return a, err
		}
		for _, r := range all {
			if r.Kind == api.KindSignature {
				a.Signatures = append(a.Signatures, api.ImageSignature{SignedManifest: one, Form: r.ArtifactType, In: r.Digest, Tag: r.Tag})
			}
		}
	}
	if a.Origins, err = i.mirrorOf(ctx, at.Repository, m.Digest); err != nil {
		return a, err
	}
	return a, i.Verify(ctx, &a)
}

// mirrorOf returns what an image is a mirror of, by its tags and by those of the lists that have it.
func (i *Images) mirrorOf(ctx context.Context, repo string, d digest.Digest) ([]string, error) {
	lists, err := i.Store.Manifests.Lists(ctx, repo, []digest.Digest{d})
	if err != nil {
		return nil, err
	}
	all, of := []string{}, []digest.Digest{d}
	for list := range lists {
		of = append(of, list)
	}
	for _, d := range of {
		tags, err := i.Store.Tags.Of(ctx, repo, d)
		for _, tag := range tags[:min(len(tags), maxOrigins)] {
			var some []string
			if some, err = i.origins(ctx, repo, tag, d); err != nil {
				break
			}
			all = append(all, some...)
		}
		if err != nil {
			return nil, err
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
