// Package retain keeps what attached clusters run and may roll back to: it finds out which manifests
// these are, and the store refuses to delete or evict them.
//
// Use New, Attach, and Follow in the background, since what a cluster needs may come later; Prune for the
// releases and catalogs that no cluster runs, can reach, or may roll back to. Images by digest are needed
// wherever they are. The components of a release are read from its image once it is here, and noted, so
// that they stay known.
//
// Refused: deciding at each delete, which would read releases then; and keeping all that the catalogs of
// a cluster offer, which is what the image sets are for.
package retain

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/release"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

const (
	again     = time.Hour // between two passes, should a change not have been noticed
	afterFail = time.Minute

	// noted begins the names of notes with the digests of the components of releases.
	noted = "components "
)

// Options are the options of New.
type Options struct {
	Store *store.Store
	// Registry is how clusters reach the registry: host[:port].
	Registry string
	// Updates, which is *updates.Service, is for Prune, and Catalogs is *views.Views.
	Updates  Updates
	Catalogs Catalogs
	Log      *slog.Logger
}

// Clusters are the attached clusters.
type Clusters struct {
	Options
	mu sync.Mutex // held while what a cluster needs is written
	// settled are the clusters of the last pass, by their ids.
	settled map[string]*settled
}

// New returns the attached clusters of a store.
func New(o Options) *Clusters { return &Clusters{Options: o, settled: map[string]*settled{}} }

// Follow finds out what the clusters need, now and after each change of the store, until ctx ends.
func (c *Clusters) Follow(ctx context.Context) error {
	stored.Follow(ctx, c.Store, func(ctx context.Context) time.Duration {
		if _, err := c.each(ctx, (*pass).keep); err != nil && ctx.Err() == nil {
			c.Log.ErrorContext(ctx, "it could not be found out what attached clusters need; what was known stays protected", "error", err)
			return afterFail
		}
		return again
	})
	return nil
}

// List finds out what each attached cluster needs, and returns that.
func (c *Clusters) List(ctx context.Context) ([]api.AttachedCluster, error) {
	return c.each(ctx, (*pass).describe)
}

func (c *Clusters) each(ctx context.Context, do func(*pass, context.Context, store.Cluster) (api.AttachedCluster, error)) ([]api.AttachedCluster, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	all := []api.AttachedCluster{}
	attached, err := c.Store.Clusters.Names(ctx)
	if err != nil || len(attached) == 0 {
		return all, err
	}
	p, err := c.pass(ctx)
	if err != nil {
		return nil, err
	}
	defer c.unsettle(attached)
	for _, one := range attached {
		told, err := do(p, ctx, one)
		if err != nil {
			return nil, err
		}
		all = append(all, told)
	}
	return all, p.forget(ctx)
}

// Attach attaches a cluster, or replaces what is known of it. An empty name or user stays as it is.
func (c *Clusters) Attach(ctx context.Context, q api.AttachRequest) (api.AttachedCluster, error) {
	if err := q.Check(); err != nil {
		return api.AttachedCluster{}, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	text, err := json.Marshal(q.Facts.Needs())
	if err != nil {
		return api.AttachedCluster{}, err
	}
	one, err := c.Store.Clusters.Get(ctx, q.Facts.ID)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return api.AttachedCluster{}, err
	}
	one.ID, one.Facts = q.Facts.ID, text
	if q.Name != "" {
		if err := c.free(ctx, q.Name, one.ID); err != nil {
			return api.AttachedCluster{}, err
		}
		one.Name = q.Name
	}
	if q.User != "" {
		if _, err := c.Store.Users.Get(ctx, q.User); err != nil {
			return api.AttachedCluster{}, hint.New(err, "appliance user add "+q.User+" --role pull")
		}
		one.User = q.User
	}
	p, err := c.pass(ctx)
	if err == nil {
		err = c.Store.Clusters.Put(ctx, one)
	}
	if err != nil {
		return api.AttachedCluster{}, err
	}
	delete(c.settled, one.ID)
	one.Updated = time.Now()
	return p.describe(ctx, one)
}

// free returns an error if another cluster is named by a name: which one would be detached?
func (c *Clusters) free(ctx context.Context, name, id string) error {
	all, err := c.Store.Clusters.Names(ctx)
	if err != nil {
		return err
	}
	for _, other := range all {
		if other.ID != id && (other.Name == name || other.ID == name) {
			return hint.New(&store.InvalidError{What: "name of a cluster", Reason: "cluster " + other.ID + " is called so"},
				"choose another --name; if that cluster is gone: appliance pin cluster remove "+other.ID)
		}
	}
	return nil
}

// MayPush returns an error unless a user may say what a cluster runs.
func (c *Clusters) MayPush(ctx context.Context, id, user string) error {
	one, err := c.Store.Clusters.Get(ctx, id)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if one.User == "" || one.User != user {
		return hint.New(fmt.Errorf("user %s may not say what cluster %s runs: %w", user, image.Quote(id), fs.ErrPermission),
			"an administrator attaches the cluster first: appliance pin cluster FILE --user "+user)
	}
	return nil
}

// Detach detaches a cluster, by its id, or by its name if no other one has it.
func (c *Clusters) Detach(ctx context.Context, name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	all, err := c.Store.Clusters.Names(ctx)
	if err != nil {
		return err
	}
	var found []store.Cluster
	for _, one := range all {
		if one.ID == name {
			return c.Store.Clusters.Delete(ctx, name)
		}
		if one.Name == name {
			found = append(found, one)
		}
	}
	switch len(found) {
	case 0:
		return hint.New(&store.NotFoundError{Kind: "cluster", Name: image.Quote(name)}, "appliance pin cluster list shows which are attached")
	case 1:
		return c.Store.Clusters.Delete(ctx, found[0].ID)
	}
	return hint.New(&store.InvalidError{What: "name of a cluster", Reason: "several are called so: " + store.ClusterNames(found)},
		"name one by its id: appliance pin cluster remove "+found[0].ID)
}

// pass finds out what clusters need.
type pass struct {
	*Clusters
	present    *mirror.Present
	components map[digest.Digest][]digest.Digest // of releases
	bundles    map[string]bundle                 // of OLM v1, by the names of their notes
	used       map[string]bool                   // notes of this pass
	catalogs   map[digest.Digest]uses            // that were read
	tagged     map[string][]digest.Digest        // images that are named by tag, where a mirror may put them
	resolved   map[mirror.Place]digest.Digest    // "": it does not exist
	counts     map[digest.Digest][2]int          // of what clusters need, and of what of it is here, by settled.set
	origins    []mirror.Origin
}

func (c *Clusters) pass(ctx context.Context) (*pass, error) {
	p := &pass{Clusters: c, components: map[digest.Digest][]digest.Digest{}, used: map[string]bool{},
		bundles: map[string]bundle{}, catalogs: map[digest.Digest]uses{},
		tagged: map[string][]digest.Digest{}, resolved: map[mirror.Place]digest.Digest{}, counts: map[digest.Digest][2]int{}}
	notes, err := c.Store.Notes(ctx, noted)
	if err != nil {
		return nil, err
	}
	for name, text := range notes {
		var all []digest.Digest
		if json.Unmarshal([]byte(text), &all) == nil {
			p.components[digest.Digest(name)] = all
		}
	}
	if notes, err = c.Store.Notes(ctx, bundled); err != nil {
		return nil, err
	}
	for name, text := range notes {
		var b bundle
		if json.Unmarshal([]byte(text), &b) == nil {
			p.bundles[name] = b
		}
	}
	p.origins, err = documents.Origins(ctx, c.Store.Tags)
	if err == nil {
		p.present, err = mirror.NewPresent(p.origins, nil, c.Store.Manifests.Repositories)
	}
	return p, err
}

// forget removes the notes about what no cluster has.
func (p *pass) forget(ctx context.Context) error {
	var notes []string
	for d := range p.components {
		if !p.used[d.String()] {
			notes = append(notes, noted+d.String())
		}
	}
	for name := range p.bundles {
		if !p.used[name] {
			notes = append(notes, bundled+name)
		}
	}
	for _, name := range notes {
		if err := p.Store.SetNote(ctx, name, ""); err != nil {
			return err
		}
	}
	return nil
}

// describe is keep, and counts what is here.
func (p *pass) describe(ctx context.Context, c store.Cluster) (api.AttachedCluster, error) {
	told, err := p.keep(ctx, c)
	if err != nil {
		return told, err
	}
	set := p.settled[c.ID].set
	n, ok := p.counts[set]
	if !ok {
		n[0], n[1], err = p.Store.Clusters.Count(ctx, c.ID)
		p.counts[set] = n
	}
	told.Images += n[0]
	told.Held = n[1]
	return told, err
}

// keep has the store keep what a cluster needs.
func (p *pass) keep(ctx context.Context, c store.Cluster) (api.AttachedCluster, error) {
	if was := p.settled[c.ID]; was != nil {
		same, err := p.same(ctx, was)
		if same || err != nil {
			return was.told, err
		}
	}
	if c.Facts == nil {
		var err error
		if c, err = p.Store.Clusters.Get(ctx, c.ID); err != nil {
			return api.AttachedCluster{}, err
		}
	}
	told := api.AttachedCluster{ID: c.ID, Name: c.Name, User: c.User, Updated: c.Updated, Releases: []string{}, Problems: []string{}}
	f, err := factsOf(c)
	if err != nil {
		return told, err
	}
	told.Version, told.Updating, told.Channel = f.Version, f.Updating, f.Channel
	for _, r := range f.Releases {
		told.Releases = append(told.Releases, r.Version)
	}
	n, err := p.needsOf(ctx, f)
	if err != nil {
		return told, err
	}
	told.Images, told.Problems = n.unknown, n.shown()
	all := slices.Sorted(maps.Keys(n.digests))
	if err := p.Store.Clusters.Keep(ctx, c.ID, all); err != nil {
		return told, err
	}
	return told, p.settle(ctx, told, f, all)
}

// factsOf returns what is known of a cluster.
func factsOf(c store.Cluster) (f state.Facts, err error) {
	if err := json.Unmarshal(c.Facts, &f); err != nil {
		return f, fmt.Errorf("read what is known of cluster %s: %w", c, err)
	}
	return f, nil
}

// read reads which components a release has: it names each by digest. fs.ErrNotExist.
func (p *pass) read(ctx context.Context, d digest.Digest) (all []digest.Digest, err error) {
	repositories, err := p.Store.Manifests.Repositories(ctx, d)
	last := error(fs.ErrNotExist)
	for _, name := range repositories {
		var found release.Payload
		repo := stored.Repository{Store: p.Store, Name: name}
		layers, err := layersOf(ctx, repo, d)
		if err == nil {
			found, err = release.ReadLayers(layers, func(d digest.Digest) (io.ReadCloser, error) {
				body, _, err := repo.Blob(ctx, d)
				return body, err
			})
		}
		if last = err; err != nil {
			continue
		}
		for _, c := range found.Components {
			if ref, err := imageset.ParseReference(c.Image); err == nil && ref.Digest != "" {
				all = append(all, ref.Digest)
			}
		}
		return all, nil
	}
	return nil, errors.Join(err, last)
}

// layersOf returns the layers of an image, or of the first of a list that is here: all of a release
// have the same components.
func layersOf(ctx context.Context, repo stored.Repository, d digest.Digest) ([]digest.Digest, error) {
	desc, body, err := repo.Manifest(ctx, d.String())
	if err != nil {
		return nil, err
	}
	m, err := image.Parse(desc.MediaType, body)
	if err != nil {
		return nil, err
	}
	var layers []digest.Digest
	last := error(fs.ErrNotExist)
	for _, r := range m.References {
		switch r.Kind {
		case image.Layer:
			layers = append(layers, r.Digest)
		case image.Child:
			var below []digest.Digest
			if below, last = layersOf(ctx, repo, r.Digest); last == nil {
				return below, nil
			}
		}
	}
	if len(layers) > 0 {
		return layers, nil
	}
	return nil, last
}
