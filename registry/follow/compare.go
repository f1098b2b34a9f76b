package follow

import (
	"cmp"
	"context"
	"fmt"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Difference is what following would change of the tags in a store.
type Difference struct {
	Coming  int      // tags that the store lacks
	Moving  int      // tags that name another manifest here
	Going   int      // tags that the first lacks
	Example []string // the first of those that move or go, as repository:tag
}

// examples is how many tags a Difference names.
const examples = 10

// Compare lists the tags of the first, and returns what following it would change here. It changes
// nothing on either side.
func Compare(ctx context.Context, o Options) (d Difference, err error) {
	host, trust, err := o.first()
	if err != nil {
		return Difference{}, err
	}
	c := client.NewHTTPS(host, o.User, o.Password, trust)
	defer c.Close()
	here := &tags{ctx: ctx, store: o.Store}
	err = c.Inventory(ctx, func(part api.Inventory) {
		for _, t := range part.Tags {
			d.until(here, store.Tag{Repository: t.Repository, Name: t.Tag})
			switch own, ok := here.first(); {
			case ok && compare(own, store.Tag{Repository: t.Repository, Name: t.Tag}) == 0:
				if own.Digest != t.Digest {
					d.Moving++
					d.example(own)
				}
				here.next()
			default:
				d.Coming++
			}
		}
	})
	if err != nil {
		return Difference{}, fmt.Errorf("list what %s has: %w", o.URL, err)
	}
	for own, ok := here.first(); ok; own, ok = here.first() {
		d.goes(own)
		here.next()
	}
	return d, here.err
}

// until counts the tags here before one of the first.
func (d *Difference) until(here *tags, t store.Tag) {
	for own, ok := here.first(); ok && compare(own, t) < 0; own, ok = here.first() {
		d.goes(own)
		here.next()
	}
}

func (d *Difference) goes(t store.Tag) {
	d.Going++
	d.example(t)
}

func (d *Difference) example(t store.Tag) {
	if len(d.Example) < examples {
		d.Example = append(d.Example, t.Repository+":"+t.Name)
	}
}

func compare(a, b store.Tag) int {
	return cmp.Or(cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Name, b.Name))
}

// tags reads the tags of a store in their order.
type tags struct {
	ctx   context.Context // it is read within one call
	store *store.Store
	some  []store.Tag
	last  store.Tag
	ended bool
	err   error
}

// first returns the next tag, if there is one.
func (t *tags) first() (store.Tag, bool) {
	if len(t.some) == 0 && !t.ended {
		t.some, t.err = t.store.Tags.All(t.ctx, t.last, api.AtOnce)
		t.ended = t.err != nil || len(t.some) < api.AtOnce
		if n := len(t.some); n > 0 {
			t.last = t.some[n-1]
		}
	}
	if len(t.some) == 0 {
		return store.Tag{}, false
	}
	return t.some[0], true
}

func (t *tags) next() { t.some = t.some[1:] }
