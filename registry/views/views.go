// Package views shows views of operator catalogs: what a filter leaves of a catalog that the store
// has, under a tag of its own, with the bundles whose images are all here and no others.
//
// Use New, then Follow in the background, and Run for a pass at once. A view is a function of its
// original's digest, its filter and what is whole. A pass compares that with what was last made, and
// shows another image in a run of the store whose name has the reason: so a change is one
// transaction, is in the history, and can be rolled back. What is rolled back stays so until the view
// would become another. The original is kept beside the view, so that the view can follow when its
// name is gone. What is superseded stays for a while, for clients that pull by digest.
//
// Refused: making views when a client asks for them, since a pull would then wait for a catalog to be
// read; and a table of images that are whole, which would have to follow every write of the store.
package views

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/documents"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// again is the longest time between two passes: it reads image sets anew, tries again what has
// failed, and removes what was kept long enough.
const again = time.Hour

// Options are the options of New.
type Options struct {
	Catalogs []config.Catalog
	Store    *store.Store
	Registry string // by which clusters reach the registry: host[:port]
	Dir      string // what is read of catalogs is kept there; an uninstall removes what begins with the database's name
	// Changes calls what changes the store, or refuses it.
	Changes interface {
		Do(ctx context.Context, change func(context.Context) error) error
	}
	// Recalled reports whether a catalog of a digest is remembered that was read at its registry.
	Recalled func(d digest.Digest) bool
	Drain    context.Context
	Log      *slog.Logger
	Now      func() time.Time // nil: time.Now
}

// Views are the views of a configuration.
type Views struct {
	store  *store.Store
	dir    string
	log    *slog.Logger
	all    []*view
	left   []*view // the configuration, and have images that they made
	runner *Runner

	reading  sync.Mutex // held while a catalog is unpacked that no view keeps
	listings listings
	recalled func(d digest.Digest) bool
	absence  absence
}

// Runner runs passes.
type Runner = jobs.Runner[api.CatalogsRequest, api.CatalogsProgress, api.CatalogsResult]

// New returns the views, and makes none.
func New(ctx context.Context, o Options) *Views {
	v := &Views{store: o.Store, dir: o.Dir, log: o.Log, recalled: o.Recalled, listings: listings{kept: catalog.Listings{Dir: o.Dir + ".listings"}},
		absence: absence{changed: o.Store.Changed()}}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, c := range o.Catalogs {
		v.all = append(v.all, v.open(ctx, c, o))
	}
	v.openLeft(ctx, o)
	v.runner = jobs.New(jobs.Kind[api.CatalogsRequest, api.CatalogsProgress, api.CatalogsResult]{
		Name: "pass over the views of catalogs", Waits: true, Run: v.changing(o), Drain: o.Drain, Log: o.Log})
	return v
}

// noteOf is the prefix of the names of notes of views.
const noteOf = "catalog "

func (v *Views) open(ctx context.Context, c config.Catalog, o Options) *view {
	log := o.Log.With("view", c.Name)
	return &view{Catalog: c, store: o.Store, registry: o.Registry, dir: o.Dir, log: log, now: o.Now, every: v.every,
		last: jobs.OpenNote[note](ctx, o.Store, noteOf+c.Name, log)}
}

// openLeft opens the views that have left the configuration: what they show stays, and what they have
// replaced is removed when its time has come.
func (v *Views) openLeft(ctx context.Context, o Options) {
	notes, err := o.Store.Notes(ctx, noteOf)
	if err != nil {
		o.Log.Warn("what views have left behind that are not configured any more cannot be read", "error", err)
	}
	for name := range notes {
		if slices.ContainsFunc(v.all, func(one *view) bool { return one.Name == name }) {
			continue
		}
		one := v.open(ctx, config.Catalog{Name: name, Keep: config.DefaultKeep}, o)
		if last := one.last.Get(); last != nil {
			one.Original, one.left = last.Of, true
			one.Keep = cmp.Or(last.Keep, one.Keep)
			v.left = append(v.left, one)
		}
	}
}

// every returns the views, and those that have left.
func (v *Views) every() []*view { return slices.Concat(v.all, v.left) }

// Runner returns the runner of passes.
func (v *Views) Runner() *Runner { return v.runner }

// Follow makes the views again when something changes, until ctx ends.
func (v *Views) Follow(ctx context.Context) error {
	if len(v.every()) == 0 {
		return nil
	}
	stored.Follow(ctx, v.store, func(ctx context.Context) time.Duration {
		_, _ = v.runner.Run(ctx, api.CatalogsRequest{}, nil) // which logs
		return again
	})
	return nil
}

// State returns the state of each view, as of the last pass.
func (v *Views) State() []api.CatalogView {
	var all []api.CatalogView
	for _, one := range v.all {
		state := api.CatalogView{Packages: []string{}}
		if last := one.last.Get(); last != nil {
			state = last.View
		}
		state.Name, state.Original, state.Frozen = one.Name, one.Original, string(one.Frozen)
		all = append(all, state)
	}
	return all
}

// changing returns run as what changes the store.
func (v *Views) changing(o Options) func(context.Context, api.CatalogsRequest, func(api.CatalogsProgress)) (api.CatalogsResult, error) {
	if o.Changes == nil {
		return v.run
	}
	return func(ctx context.Context, q api.CatalogsRequest, progress func(api.CatalogsProgress)) (result api.CatalogsResult, err error) {
		err = o.Changes.Do(ctx, func(ctx context.Context) (err error) {
			result, err = v.run(ctx, q, progress)
			return err
		})
		return result, err
	}
}

// run is one pass. A view that cannot be made does not stop the others.
func (v *Views) run(ctx context.Context, _ api.CatalogsRequest, progress func(api.CatalogsProgress)) (api.CatalogsResult, error) {
	ctx = store.WithUser(ctx, "catalogs")
	now := api.CatalogsProgress{Began: time.Now(), Views: len(v.all)}
	progress(now)
	result := api.CatalogsResult{Views: []api.CatalogView{}}
	present, err := v.present(ctx)
	if err != nil {
		return result, err
	}
	for _, one := range v.all {
		state := one.follow(ctx, present)
		if ctx.Err() != nil {
			return result, ctx.Err()
		}
		result.Views = append(result.Views, state)
		now.Done++
		progress(now)
	}
	return result, v.clean(ctx)
}

// clean removes what no view needs any more.
func (v *Views) clean(ctx context.Context) error {
	var errs []error
	var used []digest.Digest
	for _, one := range v.every() {
		errs = append(errs, one.expire(ctx))
	}
	for _, one := range v.left {
		if last := one.last.Get(); last != nil && len(last.Made) == 0 {
			one.last.Remove(ctx)
		}
	}
	for _, one := range v.all {
		if last := one.last.Get(); last != nil && last.View.OriginalDigest != "" {
			used = append(used, last.View.OriginalDigest)
		}
	}
	v.reading.Lock()
	defer v.reading.Unlock()
	return errors.Join(append(errs, catalog.PruneViews(v.dir, used))...)
}

// present returns what finds out which images are whole, as of now.
func (v *Views) present(ctx context.Context) (*mirror.Present, error) {
	origins, err := documents.Origins(ctx, v.store.Tags)
	if err != nil {
		return nil, err
	}
	return mirror.NewPresent(origins, stored.Whole(v.store), v.store.Manifests.Repositories)
}
