package views

import (
	"context"
	"errors"
	"fmt"
	"maps"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

// expire removes the images of a view that were superseded for longer than they are kept, and their
// originals: of a view that has left the configuration the newest too, once its tag is gone. A manifest
// that a tag names stays, and so does one that another view of the repository still keeps.
func (v *view) expire(ctx context.Context) error {
	last := v.last.Get()
	if last == nil {
		return nil
	}
	moves, err := v.moves(ctx)
	if err != nil {
		return err
	}
	var gone []made
	next := *last
	next.Made = maps.Clone(last.Made)
	for key, m := range last.Made {
		if (key != last.Key || v.left) && v.superseded(moves, m.Digest) {
			gone = append(gone, m)
			delete(next.Made, key)
		}
	}
	if len(gone) == 0 {
		return nil
	}
	v.last.Set(ctx, next)
	from, _ := v.OriginalRepository()
	for _, m := range gone {
		own := from != v.repo() // whose originals are copies
		if own || m.Digest != m.Original {
			err = errors.Join(err, v.remove(ctx, m.Digest))
		}
		if own {
			err = errors.Join(err, v.remove(ctx, m.Original))
		}
	}
	return err
}

func (v *view) repo() string {
	repo, _ := v.Repository()
	return repo
}

// superseded reports whether the tag of the view has not named an image for longer than it is kept.
func (v *view) superseded(moves []store.Move, d digest.Digest) bool {
	if len(moves) == 0 || moves[len(moves)-1].Became == d {
		return false
	}
	for n := len(moves) - 1; n >= 0; n-- {
		if moves[n].Was == d {
			return v.now().Sub(moves[n].Moved) > v.Keep
		}
	}
	return true // it was never shown
}

// remove removes a manifest of the view's repository, unless it is in use there.
func (v *view) remove(ctx context.Context, d digest.Digest) error {
	for _, o := range v.every() {
		last := o.last.Get()
		if last == nil || o.repo() != v.repo() {
			continue
		}
		for _, m := range last.Made {
			if m.Digest == d || m.Original == d {
				return nil
			}
		}
	}
	tags, err := v.store.Tags.Of(ctx, v.repo(), d)
	if err != nil || len(tags) > 0 {
		return err
	}
	err = v.store.Manifests.Delete(ctx, v.repo(), d)
	if err == nil {
		v.log.Info("a superseded view of a catalog is removed", "digest", d)
	}
	if kept := (*store.KeptError)(nil); errors.Is(err, store.ErrNotFound) || errors.As(err, &kept) {
		err = nil
	}
	if err != nil {
		err = fmt.Errorf("remove a superseded view of %s: %w", v.Name, err)
	}
	return err
}
