package follow

import (
	"cmp"
	"context"
	"fmt"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Difference is what following would change in a store.
type Difference struct {
	Coming  int      // tags that the store lacks
	Moving  int      // tags that name another manifest here
	Going   int      // tags that the first lacks, and images to which no tag leads
	Example []string // the first of those that move or go, as repository:tag or repository@digest
}

// Compare lists the tags and images of the first, and returns what following it would change here. It names at most
// examples, and changes nothing on either side.
func Compare(ctx context.Context, o Options, examples int) (d Difference, err error) {
	host, trust, err := o.first()
	if err != nil {
		return Difference{}, err
	}
	c := client.NewHTTPS(host, o.User, o.Password, trust)
	defer c.Close()
	goes := func(name string) {
		d.Going++
		d.example(name, examples)
	}
	tags := &walk[store.Tag]{page: o.Store.Tags.All, compare: compareTags, goes: func(t store.Tag) { goes(t.Repository + ":" + t.Name) }}
	err = c.Inventory(ctx, func(part api.Inventory) {
		for _, t := range part.Tags {
			switch own, ok := tags.find(ctx, store.Tag{Repository: t.Repository, Name: t.Tag}); {
			case !ok:
				d.Coming++
			case own.Digest != t.Digest:
				d.Moving++
				d.example(own.Repository+":"+own.Name, examples)
			}
		}
	})
	if err == nil {
		err = tags.end(ctx)
	}
	images := &walk[store.Image]{page: o.Store.Manifests.Unreached, compare: compareImages, goes: func(i store.Image) { goes(i.Repository + "@" + i.Digest.String()) }}
	if err == nil {
		err = c.Images(ctx, func(some []api.InventoryImage) {
			for _, one := range some {
				images.find(ctx, store.Image(one))
			}
		})
	}
	if err == nil {
		err = images.end(ctx)
	}
	if err != nil {
		return Difference{}, fmt.Errorf("compare with %s: %w", o.URL, err)
	}
	return d, nil
}

func (d *Difference) example(name string, most int) {
	if len(d.Example) < most {
		d.Example = append(d.Example, name)
	}
}

func compareTags(a, b store.Tag) int {
	return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Name, b.Name))
}

func compareImages(a, b store.Image) int {
	return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Digest, b.Digest))
}

// walk goes through what a store has, in its order, beside the list of another.
type walk[T any] struct {
	page    func(ctx context.Context, after T, n int) ([]T, error)
	compare func(a, b T) int
	goes    func(T) // is called with what the other lacks

	some  []T
	last  T
	ended bool
	err   error
}

// find goes on to one of the other list, and returns its like here.
func (w *walk[T]) find(ctx context.Context, one T) (own T, ok bool) {
	for own, ok = w.first(ctx); ok; own, ok = w.first(ctx) {
		switch order := w.compare(own, one); {
		case order > 0:
			return own, false
		case order == 0:
			w.some = w.some[1:]
			return own, true
		}
		w.goes(own)
		w.some = w.some[1:]
	}
	return own, false
}

// end goes through what is left, and returns the error of the walk.
func (w *walk[T]) end(ctx context.Context) error {
	for own, ok := w.first(ctx); ok; own, ok = w.first(ctx) {
		w.goes(own)
		w.some = w.some[1:]
	}
	return w.err
}

// first returns the next, if there is one.
func (w *walk[T]) first(ctx context.Context) (one T, ok bool) {
	if len(w.some) == 0 && !w.ended {
		w.some, w.err = w.page(ctx, w.last, api.AtOnce)
		w.ended = w.err != nil || len(w.some) < api.AtOnce
		if n := len(w.some); n > 0 {
			w.last = w.some[n-1]
		}
	}
	if len(w.some) == 0 {
		return one, false
	}
	return w.some[0], true
}
