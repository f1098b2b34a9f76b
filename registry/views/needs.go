package views

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// needs finds out what needs some images besides the workspace that would delete them.
type needs struct {
	*Views
	workspace string
	asked     map[mirror.Place][]mirror.Place // as they were asked for, by repository and digest
	found     map[mirror.Place]api.Need
	// wanted are the names of other image sets that want a tag, own the tags that the workspace wants.
	wanted map[mirror.Place]string
	own    map[mirror.Place]bool
}

// Needs returns those of some images that something else than a workspace needs: the last run of an
// image set of another one, an attached cluster, a catalog that is not the workspace's alone, a view,
// or another tag. A catalog that is among the images needs nothing.
func (v *Views) Needs(ctx context.Context, q api.NeedsRequest) ([]api.Need, error) {
	n := &needs{Views: v, workspace: q.Workspace, asked: map[mirror.Place][]mirror.Place{}, found: map[mirror.Place]api.Need{},
		wanted: map[mirror.Place]string{}, own: map[mirror.Place]bool{}}
	for _, i := range q.Images {
		if err := n.ask(ctx, mirror.Place{Repository: i.Repository, Reference: i.Reference}); err != nil {
			return nil, err
		}
	}
	all := []api.Need{}
	if len(n.asked) == 0 {
		return all, nil
	}
	err := n.byClusters(ctx)
	if err == nil && !q.WithoutImageSets {
		err = n.byImageSets(ctx)
	}
	if err == nil {
		err = n.byCatalogs(ctx)
	}
	if err == nil {
		err = n.byOriginals(ctx)
	}
	if err == nil {
		err = n.byTags(ctx)
	}
	for _, i := range q.Images {
		if need, ok := n.found[mirror.Place{Repository: i.Repository, Reference: i.Reference}]; ok {
			all = append(all, need)
		}
	}
	return all, err
}

// ask notes the content of an image. What does not exist is not asked for.
func (n *needs) ask(ctx context.Context, i mirror.Place) error {
	d, err := stored.Repository{Store: n.store, Name: i.Repository}.Resolve(ctx, i.Reference)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		at := mirror.Place{Repository: i.Repository, Reference: d.String()}
		n.asked[at] = append(n.asked[at], i)
	}
	return err
}

// need notes that a tag or a digest is needed, under that name or, for a digest, under each.
func (n *needs) need(ctx context.Context, i mirror.Place, by string) error {
	d, err := stored.Repository{Store: n.store, Name: i.Repository}.Resolve(ctx, i.Reference)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, asked := range n.asked[mirror.Place{Repository: i.Repository, Reference: d.String()}] {
		byDigest := digest.Digest(i.Reference).Validate() == nil || digest.Digest(asked.Reference).Validate() == nil
		content := asked != i && !byDigest
		if has, ok := n.found[asked]; ok && (content || !has.Content) {
			continue
		}
		n.found[asked] = api.Need{Repository: asked.Repository, Reference: asked.Reference, By: by, Content: content}
	}
	return err
}

// byClusters notes what attached clusters need. It is first: the store refuses to delete that, also by force.
func (n *needs) byClusters(ctx context.Context) error {
	for at, all := range n.asked {
		by, err := n.store.Clusters.Keeping(ctx, at.Repository, digest.Digest(at.Reference))
		if err != nil {
			return err
		}
		for _, asked := range all {
			if len(by) > 0 {
				n.found[asked] = api.Need{Repository: asked.Repository, Reference: asked.Reference, By: store.ClusterNames(by)}
			}
		}
	}
	return nil
}

// byImageSets notes what the image sets of other workspaces want.
func (n *needs) byImageSets(ctx context.Context) error {
	all, err := n.store.Runs.Wants(ctx)
	if err != nil {
		return err
	}
	repositories := map[string]bool{}
	for at := range n.asked {
		repositories[at.Repository] = true
	}
	for _, key := range slices.Sorted(maps.Keys(all)) {
		var wants mirror.Wants
		if err := json.Unmarshal([]byte(all[key]), &wants); err != nil {
			return fmt.Errorf("read what %s wants: %w", key, err)
		}
		by := fmt.Sprintf("%s (its run of %s)", wants.Name, wants.At.UTC().Format(time.DateOnly))
		for _, name := range wants.Images {
			at := place(name)
			if wants.Workspace == n.workspace {
				n.own[at] = true
				continue
			}
			n.wanted[at] = by
			if !repositories[at.Repository] {
				continue
			}
			if err := n.need(ctx, at, by); err != nil {
				return err
			}
		}
	}
	return nil
}

// place returns the place of repository:tag.
func place(name string) mirror.Place {
	i := max(strings.LastIndexByte(name, ':'), 0)
	return mirror.Place{Repository: name[:i], Reference: name[min(i+1, len(name)):]}
}

// byTags notes the content that has other tags than those that are asked for: a client may have given it one.
func (n *needs) byTags(ctx context.Context) error {
	asked := map[mirror.Place]bool{}
	for _, places := range n.asked {
		for _, i := range places {
			asked[i] = true
		}
	}
	for at := range n.asked {
		tags, err := n.store.Tags.Of(ctx, at.Repository, digest.Digest(at.Reference))
		if err != nil {
			return err
		}
		for _, tag := range tags {
			if i := (mirror.Place{Repository: at.Repository, Reference: tag}); !asked[i] {
				if err := n.need(ctx, i, fmt.Sprintf("tag %s:%s", i.Repository, i.Reference)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// byOriginals notes the originals of the views of the configuration.
func (n *needs) byOriginals(ctx context.Context) error {
	for _, v := range n.all {
		repo, ref := v.OriginalRepository()
		if err := n.need(ctx, mirror.Place{Repository: repo, Reference: ref}, fmt.Sprintf("view %s, whose original it is,", v.Name)); err != nil {
			return err
		}
	}
	return nil
}

// byCatalogs notes what the bundles of catalogs need.
func (n *needs) byCatalogs(ctx context.Context) error {
	origins, err := documents.Origins(ctx, n.store.Tags)
	if err != nil {
		return err
	}
	present, err := mirror.NewPresent(origins, stored.Whole(n.store), n.store.Manifests.Repositories)
	if err != nil {
		return err
	}
	for _, o := range origins {
		at := mirror.Place{Repository: o.Repository, Reference: o.Tag}
		if !mirror.IsCatalog(o.About) || n.own[at] && n.wanted[at] == "" {
			continue
		}
		kind := "catalog"
		if mirror.IsView(o.About) {
			kind = "view"
		}
		name := fmt.Sprintf("%s %s:%s", kind, o.Repository, o.Tag)
		d, err := stored.Repository{Store: n.store, Name: o.Repository}.Tagged(ctx, o.Tag)
		if err != nil {
			return unreadCatalog(name, err)
		}
		if d == "" || len(n.asked[mirror.Place{Repository: o.Repository, Reference: d.String()}]) > 0 {
			continue
		}
		if err := n.byCatalog(ctx, present, at, name); err != nil {
			return err
		}
	}
	return nil
}

// byCatalog notes what the bundles of one catalog need.
func (n *needs) byCatalog(ctx context.Context, present *mirror.Present, at mirror.Place, name string) error {
	uses, err := n.Uses(ctx, at)
	if err != nil {
		return unreadCatalog(name, err)
	}
	for image, bundles := range uses {
		places, err := present.Places(ctx, image)
		if err != nil {
			return err
		}
		for _, i := range places {
			b := bundles[0]
			if err := n.need(ctx, i, fmt.Sprintf("%s, which offers bundle %s of operator %s,", name, b.Name, b.Package)); err != nil {
				return err
			}
		}
	}
	return nil
}

// unreadCatalog is the error of a catalog that cannot be read. It is not "not found", which an appliance
// that does not know the question answers.
func unreadCatalog(name string, err error) error {
	return hint.New(fmt.Errorf("read what %s needs: %v", name, err), "mirror it again, or delete it, so that it is known which images are needed")
}

// Uses returns the images that the bundles of a catalog need, with the bundles.
func (v *Views) Uses(ctx context.Context, at mirror.Place) (uses map[string][]operator.Bundle, err error) {
	err = v.unpacked(func(dir string) (err error) {
		uses, err = catalog.Uses(ctx, stored.Repository{Store: v.store, Name: at.Repository}, at.Reference, dir)
		return err
	})
	return uses, err
}

// Content returns what a catalog has, as package mirror reads it. That the catalog cannot be read is
// in the answer, and no error.
func (v *Views) Content(ctx context.Context, q api.Place) (api.CatalogContent, error) {
	var content *catalog.Content
	err := v.unpacked(func(dir string) (err error) {
		content, err = catalog.Read(ctx, stored.Repository{Store: v.store, Name: q.Repository}, q.Reference, dir)
		return err
	})
	switch {
	case ctx.Err() != nil:
		return api.CatalogContent{}, ctx.Err()
	case err != nil:
		return api.CatalogContent{Error: err.Error()}, nil
	}
	text, err := json.Marshal(content)
	return api.CatalogContent{Content: text}, err
}

// unpacked calls f with a directory to unpack a catalog in. It is apart from what views keep, since a
// pass may be writing that.
func (v *Views) unpacked(f func(dir string) error) error {
	if err := v.store.CheckSpace(); err != nil {
		return err
	}
	v.reading.Lock()
	defer v.reading.Unlock()
	dir := filepath.Join(v.dir, "needs")
	defer os.RemoveAll(dir)
	return f(dir)
}
