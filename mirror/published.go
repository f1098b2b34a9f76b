package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// publishedFile lists what the catalogs offer that the runs of a workspace have published.
const publishedFile = "published-catalogs.json"

// publishedCatalog is a catalog at its destination.
type publishedCatalog struct {
	Digest digest.Digest `json:"digest"`
	Offers catalog.Offer `json:"offers"`
}

// published returns the catalogs that the workspace knows, by registry/repository:tag.
func (e *engine) published() map[string]publishedCatalog {
	all := map[string]publishedCatalog{}
	raw, err := e.workspace.Read(publishedFile)
	if err == nil {
		err = json.Unmarshal(raw, &all)
	}
	if err != nil {
		return map[string]publishedCatalog{} // no run has written it, or a later version
	}
	return all
}

// writePublished adds the catalogs of a run.
func (e *engine) writePublished(r *Report) error {
	all, changed := e.published(), false
	for _, i := range r.Mirrored {
		if offers := e.catalogs.Offer(i); offers != nil {
			all[e.destination(i)], changed = publishedCatalog{i.Digest, offers}, true
		}
	}
	if !changed {
		return nil
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return e.workspace.Write(publishedFile, append(raw, '\n'))
}

// offered returns what the catalog at a repository:tag offers; nil if the workspace does not know, or
// knows another one than is there.
func (e *engine) offered(ctx context.Context, at string) catalog.Offer {
	known, ok := e.published()[e.o.Registry+"/"+at]
	here := slices.ContainsFunc(e.mirroredBefore()[e.o.Registry+"/"+at], func(i mirroredImage) bool { return i.Digest == known.Digest })
	if !ok || !here {
		return nil
	}
	if e.o.Held != nil {
		repository, tag, _ := cutLast(at, ":")
		desc, _, err := e.o.Held(ctx, repository, tag)
		if errors.Is(err, fs.ErrNotExist) || err == nil && desc.Digest != known.Digest {
			return nil
		}
	}
	return known.Offers
}

// stillThere reports whether the destination has an image that failed, as an earlier run has brought
// it. Of one that is named by digest that is known before it fails.
func (e *engine) stillThere(ctx context.Context, i *plan.Image) bool {
	if e.o.Held == nil || i.Repository == "" || i.Reference.Digest != "" {
		return false
	}
	_, _, err := e.o.Held(ctx, i.Repository, i.Tag)
	return err == nil
}
