package views

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// listed bounds the bundles that a state lists as left out, and the warnings.
const listed = 20

// view is one view of the configuration.
type view struct {
	config.Catalog
	store    *store.Store
	registry string
	dir      string // of what is read of originals
	log      *slog.Logger
	now      func() time.Time
	last     *jobs.Note[note]
	left     bool           // the configuration
	every    func() []*view // those that have left the configuration, too
}

// note is what is kept of a view over restarts.
type note struct {
	View    api.CatalogView `json:"view"`
	Key     digest.Digest   `json:"key,omitempty"` // of what was last made
	Bundles []string        `json:"bundles,omitempty"`
	Filter  digest.Digest   `json:"filter,omitempty"`
	// Of and Frozen are the original and the date of the configuration that this was made by.
	Of      string      `json:"of,omitempty"`
	Frozen  config.Date `json:"frozen,omitempty"`
	Settled bool        `json:"settled,omitempty"` // the original of a frozen view is found for good
	// Keep is for how long a superseded image stayed, for when the view has left the configuration.
	Keep time.Duration `json:"keep,omitempty"`
	// Made has the images that were made, by their keys. One is used again for the same key, since
	// another version of this program may compress otherwise, and a new digest restarts the pods of a
	// catalog.
	Made map[digest.Digest]made `json:"made,omitempty"`
	Back *back                  `json:"back,omitempty"` // the last rollback
}

// made is an image of the view, with the original that it was made of.
type made struct {
	Digest   digest.Digest `json:"digest"`
	Original digest.Digest `json:"original"`
	Content  digest.Digest `json:"content,omitempty"` // of the catalog in it, as catalog.Viewed has it
}

// follow makes the view again if what it depends on has changed, and returns its state. After an
// error the view is as it was.
func (v *view) follow(ctx context.Context, present *mirror.Present) api.CatalogView {
	next := note{}
	if last := v.last.Get(); last != nil {
		next = *last
	}
	next.View.Packages = append([]string{}, next.View.Packages...)
	err := v.update(ctx, present, &next)
	if errors.Is(err, catalog.ErrDamaged) {
		v.log.Warn("what was kept of the original is damaged and is read anew", "error", err)
		err = v.update(ctx, present, &next)
	}
	if ctx.Err() != nil {
		return next.View
	}
	state := &next.View
	state.Name, state.Original, state.Frozen = v.Name, v.Original, string(v.Frozen)
	state.Error, state.Hint = "", ""
	if err != nil {
		state.Error, state.Hint = err.Error(), hint.Of(err)
		v.log.Warn("a view of a catalog could not be made and is as it was", "error", err)
	}
	if err := v.describe(ctx, state); err != nil {
		v.log.Warn("the state of a view cannot be read", "error", err)
	}
	v.last.Set(ctx, next)
	return *state
}

// update brings the view and its note up to date.
func (v *view) update(ctx context.Context, present *mirror.Present, n *note) error {
	filter, err := v.filter()
	if err != nil {
		return err
	}
	if err := v.checkName(ctx); err != nil {
		return err
	}
	from, err := v.findOriginal(ctx, *n)
	if err != nil {
		n.View.OriginalGone = false
		return err
	}
	viewed, err := catalog.View{Filter: filter, Dir: v.dir, Lacking: present.Lacking, Room: v.store.CheckSpace}.Of(ctx, from.source, from.digest.String())
	if err != nil {
		return err
	}
	next := *n
	next.Key, next.Settled, next.Filter = viewed.Key, from.settled, operator.Key(filter, "", filter.FollowDependencies, nil)
	next.Bundles = nil
	for _, b := range viewed.Bundles {
		next.Bundles = append(next.Bundles, b.Name)
	}
	next.Of, next.Frozen, next.Keep = v.Original, v.Frozen, v.Keep
	next.View = api.CatalogView{OriginalDigest: from.digest, OriginalGone: from.gone, Packages: []string{},
		Bundles: len(viewed.Bundles), Warnings: viewed.Warnings[:min(len(viewed.Warnings), listed)],
		MoreWarnings: max(0, len(viewed.Warnings)-listed), ToFreeze: v.Frozen != "" && !from.settled}
	for _, p := range viewed.Packages {
		next.View.Packages = append(next.View.Packages, p.Name)
	}
	for i, b := range viewed.LeftOut {
		if i == listed {
			next.View.MoreLeftOut = len(viewed.LeftOut) - i
			break
		}
		next.View.LeftOut = append(next.View.LeftOut, api.LeftOut(b))
	}
	if err := v.bring(ctx, *n, &next, viewed, from); err != nil {
		return err
	}
	*n = next
	return nil
}

// bring shows what the view is to be, unless it is shown, or is what a rollback took back.
func (v *view) bring(ctx context.Context, last note, next *note, viewed *catalog.Viewed, from original) error {
	repo, tag := v.Repository()
	at := stored.Repository{Store: v.store, Name: repo}
	now, err := at.Tagged(ctx, tag)
	if err != nil {
		return err
	}
	kept, err := at.Tagged(ctx, tag+config.OriginalSuffix)
	if err != nil {
		return err
	}
	moves, err := v.moves(ctx)
	if err != nil {
		return err
	}
	next.Back = last.rolledBack(moves)
	if next.View.RolledBack, err = v.stays(ctx, next, viewed, now, kept); err != nil || next.View.RolledBack {
		return err
	}
	before, known := next.Made[next.Key]
	if known && last.Key == next.Key && now == before.Digest && kept == from.digest && before.Content != "" {
		return nil
	}
	dir := filepath.Join(v.dir, from.digest.Encoded(), "view")
	defer os.RemoveAll(dir)
	s, content, err := v.make(ctx, next, viewed, from, dir)
	if err == nil && (s.digest != now || kept != from.digest) {
		err = v.show(ctx, s, v.reason(last, next, now))
	}
	if err != nil {
		return err
	}
	next.Made = withMade(next.Made, next.Key, made{s.digest, from.digest, content})
	return nil
}

// make makes the image of the view in dir, unless it was made before and is whole, and returns its
// content too.
func (v *view) make(ctx context.Context, n *note, viewed *catalog.Viewed, from original, dir string) (shown, digest.Digest, error) {
	before, known := n.Made[n.Key]
	s, content, err := shown{source: stored.Repository{Store: v.store, Name: v.repo()}, digest: before.Digest, original: from}, before.Content, error(nil)
	if known {
		known, err = v.store.Manifests.Whole(ctx, v.repo(), before.Digest)
	}
	if err == nil && content == "" {
		content, err = viewed.Content(ctx)
	}
	if err != nil || known {
		return s, content, err
	}
	if err := v.store.CheckSpace(); err != nil {
		return s, content, err
	}
	s.source, s.digest, err = viewed.Image(ctx, dir)
	return s, content, err
}

func withMade(all map[digest.Digest]made, key digest.Digest, one made) map[digest.Digest]made {
	next := map[digest.Digest]made{key: one}
	for k, m := range all {
		if k != key {
			next[k] = m
		}
	}
	return next
}

func (v *view) moves(ctx context.Context) ([]store.Move, error) {
	repo, tag := v.Repository()
	return v.store.Tags.Moves(ctx, repo, tag)
}

// describe adds what is shown now to a state, and why.
func (v *view) describe(ctx context.Context, state *api.CatalogView) error {
	state.Digest, state.Changed, state.Reason, state.Run = "", nil, "", ""
	moves, err := v.moves(ctx)
	if err != nil || len(moves) == 0 {
		return err
	}
	last := moves[len(moves)-1]
	state.Digest, state.Changed = last.Became, &last.Moved
	state.Reason, state.Run = last.Run.Name, last.Run.ID
	if last.Run.ID == "" {
		state.Reason = "a push or a delete"
	}
	return nil
}

// filter returns the filter of the view: inline, or that of an image set, whose file is read anew.
func (v *view) filter() (imageset.Operator, error) {
	if v.ImageSet == "" {
		return v.Filter(), nil
	}
	set, err := imageset.LoadEither(v.ImageSet)
	if err != nil {
		return imageset.Operator{}, v.unreadable(err)
	}
	all := v.entries(set.Mirror.Operators)
	switch {
	case len(all) == 1:
		return all[0], nil
	case len(all) == 0 && v.Entry != "":
		return imageset.Operator{}, hint.New(fmt.Errorf("image set %s has no operator entry for catalog %s", v.ImageSet, v.Entry),
			"write entry: as catalog is written there")
	case len(all) == 0:
		return imageset.Operator{}, fmt.Errorf("image set %s has no operators", v.ImageSet)
	}
	var names []string
	for _, o := range all {
		names = append(names, o.UniqueName())
	}
	return imageset.Operator{}, hint.New(fmt.Errorf("image set %s has %d operator entries that can be meant", v.ImageSet, len(all)),
		"name one with entry: by its catalog, or with the targetCatalog and targetTag that it has: "+strings.Join(names, ", "))
}

// entries returns the operator entries that entry can mean: by the catalog, or, since several may be of
// one catalog, by the name that has its targets too.
func (v *view) entries(all []imageset.Operator) []imageset.Operator {
	if v.Entry == "" {
		return all
	}
	var named, of []imageset.Operator
	for _, o := range all {
		if o.UniqueName() == v.Entry {
			named = append(named, o)
		}
		if o.Catalog == v.Entry {
			of = append(of, o)
		}
	}
	if len(named) == 1 {
		return named
	}
	return of
}

// unreadable returns the error for an image set that cannot be read, with a hint for this file instead
// of one about flags of mirror.
func (v *view) unreadable(err error) error {
	remedy := hint.Of(err)
	if errors.As(err, new(*fs.PathError)) {
		remedy = "imageSet of the view names the file: it must be there, and the user of the service must be able to read it"
	}
	return hint.New(fmt.Errorf("image set %s: %w", v.ImageSet, err), strings.ReplaceAll(remedy, "\n", "; "))
}
