package role

import (
	"context"
	"fmt"
	"slices"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// strangerError is the answer of an appliance that does not know this one by the token of the two.
type strangerError struct{ address string }

func (e *strangerError) Error() string {
	return fmt.Sprintf("https://%s answers that it does not know this appliance", e.address)
}

// other returns one of the appliances to exchange with, nil if it is none.
func (f *Family) other(ctx context.Context, id string) *Peer {
	all := f.others(ctx)
	if i := slices.IndexFunc(all, func(p Peer) bool { return p.ID == id }); i >= 0 {
		return &all[i]
	}
	return nil
}

// unknownTo keeps that another appliance does not know this one, and returns that as an error.
func (f *Family) unknownTo(ctx context.Context, p Peer) error {
	ctx = context.WithoutCancel(ctx)
	err := f.change(ctx, func(s *State) bool {
		known := s.peer(p.ID)
		return known != nil && known.Token == p.Token && !known.Unknown
	}, func(n *State) {
		n.peer(p.ID).Unknown = true
		text, next := "another appliance does not know this one", "see both: appliance status"
		switch {
		case n.Role == Primary:
			text += ", was not told that this one is the primary, and may take changes"
			next = "have that be a copy of this one, on its host: " + api.FollowCommand(f.Address)
		case n.First != nil && n.First.ID == p.ID:
			text, next = "this appliance was removed as a follower", api.WayBack(p.Address)
		case n.stranger():
			text, next = "the appliance that has taken the place of this one does not know it any more", api.WayBack(p.Address)
		}
		f.Log.WarnContext(ctx, text, "address", p.Address, "next", next)
	})
	if err != nil {
		return err
	}
	return &strangerError{p.Address}
}

// Registered takes what an appliance that registers as a follower tells of itself in the place of what was
// known of it: one that was removed and follows again has another token.
func (f *Family) Registered(ctx context.Context, p Peer) error {
	return f.change(ctx, func(s *State) bool {
		known := s.peer(p.ID)
		return known != nil && (s.First == nil || s.First.ID != p.ID) && (known.Token != p.Token || known.Address != p.Address || known.CA != p.CA)
	}, func(n *State) {
		known := n.peer(p.ID)
		p.Told = known.Told
		*known = p
	})
}

// Removed forgets what is known of a follower that was removed. One that was not told yet of this primary, or
// that is the primary, is asked and answered still.
func (f *Family) Removed(ctx context.Context, id string) error {
	return f.change(ctx, func(s *State) bool {
		known := s.peer(id)
		return known != nil && (s.First == nil || s.First.ID != id) && id != s.Known.ID && !s.Known.After(known.Told)
	}, func(n *State) {
		n.Peers = slices.DeleteFunc(n.Peers, func(p Peer) bool { return p.ID == id })
	})
}

// Forget ends the attempts of a primary to tell an appliance that does not come back, and what is told of them.
// It keeps the token of the two: one that comes back nevertheless is told when it asks, and expected from then on.
// ok reports whether id is that of one that was not told.
func (f *Family) Forget(ctx context.Context, id string) (address string, ok bool, err error) {
	err = f.change(ctx, func(s *State) bool {
		known := s.peer(id)
		return s.Role == Primary && known != nil && s.untold(*known)
	}, func(n *State) {
		known := n.peer(id)
		known.Forgotten = true
		address, ok = known.Address, true
	})
	return address, ok && err == nil, err
}

// expected returns the appliances to ask: the others without those that are forgotten.
func (f *Family) expected(ctx context.Context) []Peer {
	return slices.DeleteFunc(f.others(ctx), func(p Peer) bool { return p.Forgotten })
}

// change changes the state by change, if it is as is wants it.
func (f *Family) change(ctx context.Context, is func(*State) bool, change func(*State)) error {
	f.turning.Lock()
	defer f.turning.Unlock()
	if err := f.reload(ctx); err != nil {
		return err
	}
	if s := f.State(); !is(&s) {
		return nil
	}
	return f.turn(context.WithoutCancel(ctx), func(n *State) {
		if is(n) { // another daemon may have turned it
			change(n)
		}
	})
}
