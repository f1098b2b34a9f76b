package images

import (
	"context"
	"errors"
	"net/http"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// change is see for a user who is to change a repository, which anonymous pulls do not allow.
func change(ctx context.Context, repo string) error {
	if err := see(ctx, repo); err != nil {
		return err
	}
	if id, ok := auth.IdentityFrom(ctx); ok && !id.MayRepository(repo) {
		return &store.NotFoundError{Kind: "repository", Name: repo}
	}
	return nil
}

// PlanDelete tells what Delete would do. What the store refuses to delete is in the answer, and no error.
func (i *Images) PlanDelete(ctx context.Context, at api.Place) (a api.Deletion, err error) {
	if err := change(ctx, at.Repository); err != nil {
		return a, err
	}
	m, tag, err := i.find(ctx, at)
	if err != nil {
		return a, err
	}
	a.Digest = m.Digest
	if tag != "" {
		err = i.planUntag(ctx, &a, at.Repository, tag)
	} else {
		err = i.planRemoval(ctx, &a, at.Repository)
	}
	if kept := (*store.KeptError)(nil); errors.As(err, &kept) {
		return api.Deletion{Digest: m.Digest, Refused: kept.Error(), Hint: hint.Of(err)}, nil
	}
	return a, err
}

// planUntag tells what the deletion of a tag does: the image stays, by its digest and its other tags.
func (i *Images) planUntag(ctx context.Context, a *api.Deletion, repo, tag string) error {
	if err := i.Store.Tags.MayDelete(ctx, repo, tag); err != nil {
		return err
	}
	a.Tags, a.AllTags = []string{tag}, 1
	all, err := i.Store.Tags.Of(ctx, repo, a.Digest)
	others := slices.DeleteFunc(all, func(t string) bool { return t == tag })
	a.OtherTags, a.AllOtherTags = cutList(others), len(others)
	return err
}

// planRemoval tells what the deletion of an image does.
func (i *Images) planRemoval(ctx context.Context, a *api.Deletion, repo string) error {
	goes, err := i.Store.Manifests.Goes(ctx, repo, a.Digest, i.Alone)
	if err != nil {
		return err
	}
	if a.Within = restricted(ctx); a.Within {
		if goes.Freed, err = i.Store.Manifests.Loses(ctx, repo, goes.Manifests); err != nil {
			return err
		}
	}
	a.Tags, a.AllTags, a.AllGone = cutList(goes.Tags), goes.AllTags, len(goes.Manifests)
	a.Blobs, a.Bytes, a.Children = goes.Freed.Blobs, goes.Freed.Bytes, goes.Children[:min(len(goes.Children), maxListed)]
	platforms, err := i.platforms(ctx, repo, a.Digest)
	if err != nil {
		return err
	}
	attached := map[digest.Digest]string{} // by tag
	for _, tag := range goes.Tags {
		if _, is := image.AttachmentOf(tag); is {
			m, err := i.Store.Manifests.ByTag(ctx, repo, tag)
			if err != nil && !errors.Is(err, store.ErrNotFound) {
				return err
			}
			attached[m.Digest] = tag
		}
	}
	for _, d := range goes.Manifests[:min(len(goes.Manifests), maxListed)] {
		m, err := i.Store.Manifests.Get(ctx, repo, d)
		if errors.Is(err, store.ErrNotFound) {
			continue // deleted meanwhile
		}
		if err != nil {
			return err
		}
		a.Images = append(a.Images, api.DeletedPart{Digest: d, Kind: kindOf(d, m.MediaType, m.ArtifactType, attached[d]), Platform: platforms[d]})
	}
	if i.Alone {
		of := api.Image{Repository: repo, Digest: a.Digest}
		if err := i.addReferrers(ctx, &of, image.Manifest{}); err != nil {
			return err
		}
		for _, r := range of.Referrers {
			a.Attached = append(a.Attached, api.DeletedPart{Digest: r.Digest, Kind: r.Kind})
		}
	}
	sizes, err := i.sizes(ctx, repo, []digest.Digest{a.Digest})
	if size := sizes[a.Digest]; err == nil && size != nil {
		a.SharedBytes = max(0, size.Bytes-a.Bytes)
	}
	if err != nil {
		return err
	}
	others, err := i.Store.Manifests.AnyRepositories(ctx, a.Digest)
	a.Repositories = cutList(seen(ctx, slices.DeleteFunc(others, func(other string) bool { return other == repo })))
	return err
}

// platforms returns those of the children of an index.
func (i *Images) platforms(ctx context.Context, repo string, d digest.Digest) (map[digest.Digest]string, error) {
	m, err := i.Store.Manifests.Get(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	p, err := image.Parse(m.MediaType, m.Body)
	all := map[digest.Digest]string{}
	for _, r := range p.References {
		all[r.Digest] = cut(r.Platform)
	}
	return all, err
}

// Delete deletes a tag, or an image by its digest, for the user of a request.
func (i *Images) Delete(r *http.Request, at api.Place) error {
	if err := change(r.Context(), at.Repository); err != nil {
		return err
	}
	return i.Remove(r, at.Repository, at.Reference)
}
