// Package images describes for people what the store has: repositories, tags, and what an image is, with
// what belongs to it and what a deletion of it would do.
//
// Each method answers for the user in its context, and what that user may not see does not exist for it.
// Nothing is fetched and nothing is changed: what pull-through does not have yet is not shown. Which
// images go with another, and what keeps them, is decided by package store; Delete is the registry's own.
//
// Search is by a part of the name. An index of words or of trigrams was refused: a search reads at most the
// names of 100,000 repositories, or of one repository's tags, and takes less than a tenth of a second.
package images

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Images describes the images of a store.
type Images struct {
	Store *store.Store
	// Alone is for a registry that deletes an image without what is attached to it.
	Alone bool
	// Remove deletes a tag or, by a digest, an image, for the user of a request, as the registry's API does.
	Remove func(r *http.Request, repo, ref string) error
	// Verify judges the signatures of an image, and adds those that are not attached to it.
	Verify func(ctx context.Context, found *api.ImageSignatures) error
}

// counting bounds the time in which the sizes of a page are counted.
const counting = time.Second

// Repositories lists a part of the repositories.
func (i *Images) Repositories(ctx context.Context, q api.Page) (api.Repositories, error) {
	n := limit(q)
	names, more, err := i.visible(ctx, q, n)
	if err != nil {
		return api.Repositories{}, err
	}
	counts, err := i.Store.Tags.Count(ctx, names)
	page := api.Repositories{Repositories: []api.Repository{}, More: more}
	for _, name := range names {
		page.Repositories = append(page.Repositories, api.Repository{Name: name, Tags: counts[name]})
	}
	return page, err
}

func limit(q api.Page) int {
	if q.Limit == 0 {
		return api.PageUsual
	}
	return q.Limit
}

// visible returns the names of a page.
func (i *Images) visible(ctx context.Context, q api.Page, n int) (names []string, more bool, err error) {
	if id, ok := auth.IdentityFrom(ctx); ok && id.Restricted() {
		return i.Store.FindAmong(ctx, id.Seen(), q.Search, q.After, n)
	}
	return i.Store.Find(ctx, q.Search, q.After, n)
}

// see returns an error for a repository that the user may not see, the same as for one that does not exist.
func see(ctx context.Context, repo string) error {
	if err := image.CheckRepository(repo); err != nil {
		return err
	}
	if id, ok := auth.IdentityFrom(ctx); ok && !id.Sees(repo) {
		return &store.NotFoundError{Kind: "repository", Name: repo}
	}
	return nil
}

// restricted reports whether there are repositories that the user may not see.
func restricted(ctx context.Context) bool {
	id, ok := auth.IdentityFrom(ctx)
	return ok && id.Restricted()
}

// Tags lists a part of the tags of a repository.
func (i *Images) Tags(ctx context.Context, q api.TagsRequest) (api.TagPage, error) {
	if err := see(ctx, q.Repository); err != nil {
		return api.TagPage{}, err
	}
	tags, more, err := i.Store.Tags.Find(ctx, q.Repository, q.Search, q.After, limit(q.Page))
	if err != nil {
		return api.TagPage{}, err
	}
	var all []digest.Digest
	for _, t := range tags {
		all = append(all, t.Digest)
	}
	sizes, err := i.sizes(ctx, q.Repository, all)
	page := api.TagPage{Tags: []api.TaggedImage{}, More: more}
	for _, t := range tags {
		if err != nil {
			break
		}
		one := api.TaggedImage{Tag: t.Name, Digest: t.Digest, Kind: kindOf(t.Digest, t.MediaType, t.ArtifactType, t.Name), MediaType: t.MediaType,
			ArtifactType: t.ArtifactType, Size: sizes[t.Digest], Moved: t.Updated, Confirmed: t.Checked}
		one.Origins, err = i.origins(ctx, q.Repository, t.Name, t.Digest)
		page.Tags = append(page.Tags, one)
	}
	return page, err
}

// sizes returns the sizes of some images, of as many as are counted in a second.
func (i *Images) sizes(ctx context.Context, repo string, all []digest.Digest) (map[digest.Digest]*api.ImageSize, error) {
	short, end := context.WithTimeout(ctx, counting)
	defer end()
	counted, err := i.Store.Manifests.Sizes(short, repo, all)
	sizes := map[digest.Digest]*api.ImageSize{}
	for d, n := range counted {
		sizes[d] = &api.ImageSize{Parts: n.Parts, Held: n.Held, Bytes: n.Bytes}
	}
	return sizes, err
}

// origins returns what a tag is a mirror of.
func (i *Images) origins(ctx context.Context, repo, tag string, d digest.Digest) (names []string, err error) {
	all, err := i.Store.Tags.OriginsOf(ctx, repo, tag, d)
	for _, o := range all {
		names = append(names, o.Origin)
	}
	return names, err
}

// find returns the manifest of a tag or a digest, and the tag.
func (i *Images) find(ctx context.Context, at api.Place) (m store.Manifest, tag string, err error) {
	if err := see(ctx, at.Repository); err != nil {
		return m, "", err
	}
	if d, err := digest.Parse(at.Reference); err == nil {
		m, err = i.Store.Manifests.Get(ctx, at.Repository, d)
		return m, "", err
	}
	m, err = i.Store.Manifests.ByTag(ctx, at.Repository, at.Reference)
	if is := (*store.InvalidError)(nil); errors.As(err, &is) {
		err = &store.NotFoundError{Kind: "tag", Name: image.Quote(at.Reference)} // one that is malformed does not exist
	}
	return m, at.Reference, err
}

// seen returns those of some repositories that the user may see.
func seen(ctx context.Context, repos []string) []string {
	id, ok := auth.IdentityFrom(ctx)
	return slices.DeleteFunc(repos, func(repo string) bool { return ok && !id.Sees(repo) })
}
