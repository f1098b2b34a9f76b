package role_test

import (
	"context"
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/role"
	"github.com/mirror-appliance/appliance/registry/store"
)

type checkKey struct{}

// daemons are two of one store, which are not told of what the other does.
type daemons struct {
	t     *testing.T
	store *store.Store
	a, b  *role.Family

	swapping func()  // called before the next write of the state
	turned   []int64 // the generations that b has turned to
}

func newDaemons(t *testing.T) *daemons {
	t.Helper()
	s, err := store.Open(t.Context(), store.Options{Database: filepath.Join(t.TempDir(), "db"), Storage: filepath.Join(t.TempDir(), "blobs")})
	must(t, err)
	t.Cleanup(func() { must(t, s.Close()) })
	d := &daemons{t: t, store: s}
	d.a, d.b = d.open(nil), d.open(func(s role.State) { d.turned = append(d.turned, s.Known.Generation) })
	return d
}

func (d *daemons) open(turned func(role.State)) *role.Family {
	d.t.Helper()
	f, err := role.Open(d.t.Context(), role.Options{Notes: d.store, Address: "one:8443", Log: slog.New(slog.DiscardHandler),
		Compare: func(context.Context, api.FollowRequest) (api.Difference, error) { return api.Difference{}, nil }, Turned: turned, Shared: &role.Shared{
			Swap: func(ctx context.Context, name, was, text string) (bool, error) {
				if first := d.swapping; first != nil {
					d.swapping = nil
					first()
				}
				return d.store.SwapNote(ctx, name, was, text)
			},
			Guard: func(ctx context.Context, name string, check func(string) error) context.Context {
				return context.WithValue(ctx, checkKey{}, func() error { // as the store does at each write
					text, err := d.store.Note(ctx, name)
					if err != nil {
						return err
					}
					return check(text)
				})
			}}})
	must(d.t, err)
	return f
}

func write(ctx context.Context) error { return ctx.Value(checkKey{}).(func() error)() }

func TestFamily_shared(t *testing.T) {
	other := newAppliance(t)
	t.Run("two that begin have one state", func(t *testing.T) {
		d := newDaemons(t)
		if d.a.State().ID != d.b.State().ID {
			t.Errorf("%s and %s", d.a.State().ID, d.b.State().ID)
		}
	})
	t.Run("a write after another has turned the role is refused", func(t *testing.T) {
		d := newDaemons(t)
		ctx, leave, err := d.b.Enter(t.Context())
		must(t, err)
		must(t, write(ctx))
		_, err = d.a.Follow(t.Context(), request(other))
		must(t, err)
		var refused *role.ReadOnlyError
		if err := write(ctx); !errors.As(err, &refused) || refused.Role != role.Follower {
			t.Errorf("%v", err)
		}
		leave()
		must(t, d.b.Refresh(t.Context()))
		if err := d.b.Check(t.Context()); !errors.As(err, &refused) {
			t.Errorf("after it has looked: %v", err)
		}
	})
	t.Run("one that was turned back takes writes again", func(t *testing.T) {
		d := newDaemons(t)
		_, err := d.a.Follow(t.Context(), request(other))
		must(t, err)
		must(t, d.b.Refresh(t.Context()))
		within := d.b.Within(t.Context(), func(s role.State) bool { return s.Role == role.Follower })
		must(t, write(within))
		_, err = d.a.Leave(t.Context())
		must(t, err)
		if write(within) == nil {
			t.Error("what follows writes after the role was turned")
		}
		must(t, d.b.Refresh(t.Context()))
		ctx, leave, err := d.b.Enter(t.Context())
		must(t, err)
		must(t, write(ctx))
		leave()
	})
	t.Run("one that turns it while another does begins with what that has written", func(t *testing.T) {
		d := newDaemons(t)
		_, err := d.a.Follow(t.Context(), request(other))
		must(t, err)
		s := d.a.State()
		other.has(role.Peer{ID: s.ID, Address: "one:8443", Token: s.First.Token})
		must(t, d.b.Refresh(t.Context()))
		d.swapping = func() {
			_, err := d.a.Promote(t.Context(), api.PromoteRequest{Force: true}, func(api.PromoteProgress) {})
			must(t, err)
		}
		_, err = d.b.Leave(t.Context())
		must(t, err)
		must(t, d.a.Refresh(t.Context()))
		if a, b := d.a.State(), d.b.State(); !slices.Equal(d.turned, []int64{1, 2}) || a.Lineage != b.Lineage || !d.a.Writable() || !d.b.Writable() {
			t.Errorf("it turned to the generations %v: %+v and %+v", d.turned, a, b)
		}
	})
}
