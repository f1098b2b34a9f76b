package views

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// goneListed bounds the bundles that an error names.
const goneListed = 5

// CheckRollback returns an error for catalogs that a rollback would bring back though images of their
// bundles were deleted since. What the catalog that is there now lacks too does not count: it was left
// out of the mirror.
func (v *Views) CheckRollback(ctx context.Context, moved []store.TagChange) error {
	origins, err := documents.Origins(ctx, v.store.Tags)
	if err != nil {
		return err
	}
	var catalogs []store.TagChange
	for _, m := range moved {
		if m.Became == "" {
			continue
		}
		of, err := v.store.Tags.OriginsOf(ctx, m.Repository, m.Name, m.Became)
		if err != nil {
			return err
		}
		for _, o := range of { // by the tags as they will be
			origins = append(origins, mirror.Origin{Repository: o.Repository, Tag: o.Tag, About: o.About, Recorded: o.Recorded})
		}
		if slices.ContainsFunc(of, func(o store.Origin) bool { return mirror.IsCatalog(o.About) }) {
			catalogs = append(catalogs, m)
		}
	}
	if len(catalogs) == 0 {
		return nil
	}
	present, err := mirror.NewPresent(origins, stored.Whole(v.store), v.store.Manifests.Repositories)
	if err != nil {
		return err
	}
	for _, m := range catalogs {
		if err := v.checkCatalog(ctx, present, m); err != nil {
			return fmt.Errorf("nothing is rolled back: %w", err)
		}
	}
	return nil
}

// checkCatalog returns an error if a catalog would offer bundles whose images are gone.
func (v *Views) checkCatalog(ctx context.Context, present *mirror.Present, m store.TagChange) error {
	gone, err := v.gone(ctx, present, m.Repository, m.Became.String())
	if err != nil {
		return err
	}
	if len(gone) > 0 && m.Was != "" {
		now, err := v.gone(ctx, present, m.Repository, m.Was.String())
		if err != nil {
			return err
		}
		maps.DeleteFunc(gone, func(bundle, _ string) bool { return now[bundle] != "" })
	}
	if len(gone) == 0 {
		return nil
	}
	var named []string
	for _, bundle := range slices.Sorted(maps.Keys(gone)) {
		if len(named) == goneListed {
			named = append(named, fmt.Sprintf("and %d more", len(gone)-goneListed))
			break
		}
		named = append(named, bundle+" ("+gone[bundle]+")")
	}
	return hint.New(fmt.Errorf("catalog %s:%s of before would offer bundles whose images are not here: %s", m.Repository, m.Name, strings.Join(named, ", ")),
		"mirror them again with the image set of then, which brings the catalog back too; --force brings it back without them")
}

// gone returns the bundles of a catalog of which an image is not here, with the reasons.
func (v *Views) gone(ctx context.Context, present *mirror.Present, repository, ref string) (map[string]string, error) {
	uses, err := v.Uses(ctx, mirror.Place{Repository: repository, Reference: ref})
	if err != nil {
		return nil, fmt.Errorf("read catalog %s@%s: %w", repository, ref, err)
	}
	lacking, err := present.Lacking(ctx, slices.Sorted(maps.Keys(uses)))
	gone := map[string]string{}
	for image, reason := range lacking {
		for _, b := range uses[image] {
			if text := "image " + image + ": " + reason; gone[b.Name] == "" || text < gone[b.Name] {
				gone[b.Name] = text
			}
		}
	}
	return gone, err
}
