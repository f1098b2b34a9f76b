package views

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// original is the catalog that a view is of.
type original struct {
	source  stored.Repository
	digest  digest.Digest
	gone    bool // from its name: source has the copy that was kept
	settled bool // it is that of a moment which has passed
}

// findOriginal finds the original under its name, or else the copy that the last view kept beside it.
func (v *view) findOriginal(ctx context.Context, last note) (original, error) {
	repo, ref := v.OriginalRepository()
	o := original{source: stored.Repository{Store: v.store, Name: repo}}
	var err error
	switch {
	case v.Frozen == "":
		o.digest, err = o.source.Resolve(ctx, ref)
	case last.Settled && last.same(v):
		o.digest, o.settled = last.View.OriginalDigest, true
	default:
		o.settled = v.now().After(v.Frozen.Time())
		o.digest, err = v.frozen(ctx, o.source, ref)
	}
	if err == nil {
		_, err = o.source.Resolve(ctx, o.digest.String())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return o, err
	}
	switch known, parseErr := digest.Parse(ref); {
	case o.digest != "": // found, and deleted since
	case parseErr == nil:
		o.digest = known
	case last.same(v):
		o.digest = last.View.OriginalDigest
	}
	if o.digest != "" {
		kept, found, err := v.copied(ctx, o.digest)
		if found || err != nil {
			o.source, o.gone = kept, true
			return o, err
		}
	}
	return o, hint.New(fmt.Errorf("the original %s is not in this registry: %w", v.Original, err),
		"mirror the catalog to that name, for example with additionalImages and targetRepo")
}

// copied finds a copy of the original that this view, or another of the same original, has kept: of a
// digest, under whatever tags.
func (v *view) copied(ctx context.Context, d digest.Digest) (stored.Repository, bool, error) {
	from, _ := v.OriginalRepository()
	places := []string{from, v.repo()}
	for _, o := range v.every() {
		if o.Original == v.Original {
			places = append(places, o.repo())
		}
	}
	for _, repo := range places {
		at := stored.Repository{Store: v.store, Name: repo}
		whole, err := v.store.Manifests.Whole(ctx, repo, d)
		if whole || err != nil {
			return at, whole, err
		}
	}
	return stored.Repository{}, false, nil
}

// same reports whether the configuration names the same original as it did then.
func (n note) same(v *view) bool { return n.Of == v.Original && n.Frozen == v.Frozen }

// frozen returns the digest that the tag of the original had at the moment that the configuration
// names.
func (v *view) frozen(ctx context.Context, source stored.Repository, tag string) (digest.Digest, error) {
	moves, err := v.store.Tags.Moves(ctx, source.Name, tag)
	if err != nil {
		return "", err
	}
	now, err := source.Tagged(ctx, tag)
	if err != nil {
		return "", err
	}
	then, err := digestAt(moves, now, v.Frozen.Time())
	if err != nil {
		return "", fmt.Errorf("original %s, frozen %s: %w", v.Original, v.Frozen, err)
	}
	return then, nil
}

// digestAt returns what a tag named at a moment, by its moves and what it names now. Old moves by
// pushes are not kept, so that the move before the moment and the one after it must fit together.
func digestAt(moves []store.Move, now digest.Digest, at time.Time) (digest.Digest, error) {
	var before, after = store.Move{}, store.Move{Was: now}
	for n, m := range moves {
		if m.Moved.After(at) {
			after = m
			break
		}
		before = moves[n]
	}
	const remedy = "choose a later date, or name the original by its digest and leave frozen out"
	switch {
	case len(moves) == 0, before.Moved.IsZero() && after.Was == "":
		err := errors.New("it was not in this registry then")
		if len(moves) > 0 {
			err = fmt.Errorf("it was not in this registry before %s", moves[0].Moved.UTC().Format(time.RFC3339))
		}
		return "", hint.New(err, remedy)
	case before.Became != after.Was:
		return "", hint.New(errors.New("the history of its tag does not have what it was then: pushes moved it too often since"), remedy)
	case before.Became == "":
		return "", hint.New(fmt.Errorf("its tag was deleted then, since %s", before.Moved.UTC().Format(time.RFC3339)), remedy)
	}
	return before.Became, nil
}
