// Package role is what an appliance is among those that have the same content: the primary, which
// takes changes, a follower, which copies them, or superseded, which was the primary until another
// took its place.
//
// Open a Family, which keeps its State in one note of the store, so that a change of the role is one
// transaction. Each change of content passes Enter, and a role that takes no changes refuses it there,
// after the changes under way have ended: what was acknowledged before is what a follower gets.
//
// Generations order primaries: a promotion takes the next one, and the appliance of the highest
// generation that another appliance of the family knows is the one to write to. Appliances tell each
// other what they know (exchange.go): at the start before the first change, and from time to time.
//
// Refused: a vote. Two appliances have no majority, and a third one only for voting is one more to keep
// up; an administrator decides. So two primaries are possible, where one was promoted by force while
// the other still served, until they hear of each other; docs/follow.md has what then is lost. Refused
// too: the role in config.yaml, since commands change it.
package role

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// A Role is one of those below.
type Role string

const (
	Primary    Role = "primary"
	Follower   Role = "follower"
	Superseded Role = "superseded"
)

// Term names the primary of a generation.
type Term struct {
	Generation int64  `json:"generation"`
	ID         string `json:"id"`
	Address    string `json:"address"`
}

// After reports whether t replaces other. Of two primaries of one generation, which forced promotions
// can make, all appliances take the same one.
func (t Term) After(other Term) bool {
	return cmp.Or(cmp.Compare(t.Generation, other.Generation), cmp.Compare(t.ID, other.ID)) > 0
}

// Peer is another appliance of the family. Each of the two knows the other by the token.
type Peer struct {
	ID      string `json:"id"`
	Address string `json:"address"`
	CA      string `json:"ca,omitempty"` // PEM; empty: the system's
	Token   string `json:"token"`
	// Told is the newest term that it has confirmed.
	Told Term `json:"told,omitzero"`
	// Unknown reports that it has answered, to the last question, that it does not know this appliance.
	Unknown bool `json:"unknown,omitempty"`
	// Forgotten reports that an administrator does not expect it back: it is not asked, and answered still.
	Forgotten bool `json:"forgotten,omitempty"`
}

// First is the appliance that a follower follows.
type First struct {
	Peer
	User     string   `json:"user"`
	Password string   `json:"password"`
	Sealed   string   `json:"sealed,omitempty"` // the password as Options.Seal makes it, in a note that has none in clear
	Users    bool     `json:"users,omitempty"`  // they are copied too
	Above    []string `json:"above,omitempty"`  // the ids of those that it follows itself, through others too
}

// State is what is kept of a role.
type State struct {
	ID      string    `json:"id"`      // of this store
	Lineage string    `json:"lineage"` // of the family
	Role    Role      `json:"role"`
	Since   time.Time `json:"since"`
	Known   Term      `json:"known"`           // the newest that was heard of
	First   *First    `json:"first,omitempty"` // of a follower
	Peers   []Peer    `json:"peers,omitempty"` // without followers, which the store has
}

// Notes is what a Family needs of the store.
type Notes interface {
	Note(ctx context.Context, name string) (string, error) // "" if there is none
	SetNote(ctx context.Context, name, text string) error
}

// noteName is the name of the note that has the state.
const noteName = "role"

// Options are the options of Open.
type Options struct {
	Notes   Notes
	Address string // of this appliance, host:port
	// Followers returns the appliances that follow this one, of which the store knows.
	Followers func(context.Context) ([]Peer, error)
	// Compare compares the content with that of the appliance that is to be followed.
	Compare func(ctx context.Context, q api.FollowRequest) (api.Difference, error)
	// Register tells the appliance that is to be followed of this one, with the token of first, and Unregister
	// takes that back.
	Register   func(ctx context.Context, c *client.Client, first First) error
	Unregister func(ctx context.Context, first First) error
	// CatchUp returns once the store has everything that the first had when it was called.
	CatchUp func(ctx context.Context) error
	// Behind describes how far behind the first the store is.
	Behind func() string
	// Turned is called after each change of the role, or of the way to the appliance that is followed, and before it
	// takes changes.
	Turned func(State)
	Shared *Shared // nil: no other daemon has the store
	Seal   *Seal   // nil: the login of the first is in clear in the note
	Log    *slog.Logger
	Now    func() time.Time // nil: time.Now
}

// Family is this appliance among the others. It is safe for concurrent use.
type Family struct {
	Options
	gate *gate

	// turning is held while the state changes. No request to another appliance is made meanwhile,
	// since that may be about to ask this one.
	turning sync.Mutex
	state   atomic.Pointer[kept]
	// acting is held by the one command that follows or promotes.
	acting sync.Mutex
	wake   chan struct{} // has an entry when the others are to hear something
}

// kept is a state, and its note.
type kept struct {
	State
	text string
}

// Open reads the state, or makes that of a new store.
func Open(ctx context.Context, o Options) (*Family, error) {
	f := &Family{Options: o, gate: newGate(), wake: make(chan struct{}, 1)}
	if f.Now == nil {
		f.Now = time.Now
	}
	text, err := o.Notes.Note(ctx, noteName)
	if err != nil {
		return nil, fmt.Errorf("read the role of this appliance: %w", err)
	}
	if text == "" {
		if text, err = f.begin(ctx); err != nil {
			return nil, err
		}
	}
	s, err := f.parse(text)
	if err != nil {
		return nil, err
	}
	if s.Role == Primary {
		s.Known.Address = o.Address // it may be another since
	}
	f.state.Store(&kept{s, text})
	f.gate.set(RefusalOf(s))
	return f, nil
}

// begin makes the state of a new store, and returns its note.
func (f *Family) begin(ctx context.Context) (string, error) {
	s := State{ID: rand.Text(), Role: Primary, Since: f.Now()}
	s.Lineage, s.Known = s.ID, Term{Generation: 1, ID: s.ID}
	text, saved, err := f.save(ctx, "", s)
	if err != nil || saved {
		return text, err
	}
	return f.Notes.Note(ctx, noteName) // another daemon was first
}

// State returns the state. It must not be changed.
func (f *Family) State() State { return f.kept().State }

func (f *Family) kept() *kept { return f.state.Load() }

// Writable reports whether the appliance takes changes.
func (f *Family) Writable() bool { return f.State().Role == Primary }

// save writes a state in the place of the note of another, and reports whether that was the note still.
func (f *Family) save(ctx context.Context, was string, s State) (text string, saved bool, err error) {
	data, err := json.Marshal(f.sealed(s))
	text, saved = string(data), true
	switch {
	case err != nil:
	case f.Shared != nil:
		saved, err = f.Shared.Swap(ctx, noteName, was, text)
	default:
		err = f.Notes.SetNote(ctx, noteName, text)
	}
	if err != nil {
		return "", false, fmt.Errorf("write the role of this appliance: %w", err)
	}
	return text, saved, nil
}

// turn changes the state by change, durably. A state that refuses changes is saved after those under way
// have ended. change is called again with the state of another daemon that turns it meanwhile. The
// caller holds turning.
func (f *Family) turn(ctx context.Context, change func(*State)) error {
	for {
		was := f.kept()
		next := was.State
		next.Peers = slices.Clone(was.Peers)
		if was.First != nil {
			first := *was.First
			next.First = &first
		}
		change(&next)
		if next.Role != was.Role {
			next.Since = f.Now()
		}
		if refuses := RefusalOf(next); refuses != nil {
			f.gate.shut(refuses)
		}
		text, saved, err := f.save(ctx, was.text, next)
		if err == nil && saved {
			f.become(ctx, kept{next, text})
			return nil
		}
		f.gate.set(RefusalOf(was.State))
		if err == nil {
			err = f.reload(ctx)
		}
		if err != nil {
			return err
		}
	}
}

// sameAs reports whether two followers copy from one appliance in the same way. What each knows of the family may differ.
func (f *First) sameAs(other *First) bool {
	if f == nil || other == nil {
		return f == other
	}
	return f.ID == other.ID && f.Address == other.Address && f.CA == other.CA && f.Token == other.Token && f.User == other.User && f.Password == other.Password && f.Users == other.Users
}

// become takes a state that is saved. If it refuses changes, none is under way.
func (f *Family) become(ctx context.Context, next kept) {
	was := f.State()
	f.state.Store(&next)
	if next.Role != was.Role || !next.First.sameAs(was.First) {
		f.Log.InfoContext(ctx, "audit", "event", "role changed", "user", "appliance", "remote", "", "from", string(was.Role), "to", string(next.Role),
			"generation", next.Known.Generation, "primary", next.Known.Address)
		if f.Turned != nil {
			f.Turned(next.State)
		}
	}
	f.gate.set(RefusalOf(next.State))
}

// Describe returns what others may know of the state.
func (f *Family) Describe() api.Family {
	s := f.State()
	told := api.Family{ID: s.ID, Lineage: s.Lineage, Role: string(s.Role), Generation: s.Known.Generation, Primary: s.Known.Address, PrimaryID: s.Known.ID, Since: s.Since, Now: f.Now()}
	if s.Role != Primary && s.Known.ID == s.ID { // a promotion has begun, and not ended
		told.Primary, told.Promoting = "", true
	}
	if s.First != nil {
		told.Follows, told.Users, told.Removed = s.First.Address, s.First.Users, s.First.Unknown
		told.Above = append([]string{s.First.ID}, s.First.Above...)
	}
	told.Removed = told.Removed || s.stranger()
	if s.Role == Primary {
		for _, p := range s.Peers {
			if s.untold(p) {
				told.Untold = append(told.Untold, p.Address)
				told.UntoldIDs = append(told.UntoldIDs, p.ID)
				if p.Unknown {
					told.Strangers = append(told.Strangers, p.Address)
				}
			}
		}
	}
	return told
}

// stranger reports whether the appliance that has taken this one's place answers that it does not know it.
func (s *State) stranger() bool {
	p := s.peer(s.Known.ID)
	return s.Role == Superseded && p != nil && p.Unknown
}

// untold reports whether another appliance, which is expected back, has not confirmed the term yet.
func (s *State) untold(p Peer) bool { return !p.Forgotten && s.Known.After(p.Told) }

// setPeer adds a peer, or replaces what is known of it.
func (s *State) setPeer(p Peer) {
	s.Peers = slices.DeleteFunc(s.Peers, func(other Peer) bool { return other.ID == p.ID })
	s.Peers = append(s.Peers, p)
}

// peer returns what is known of another appliance, nil if nothing is.
func (s *State) peer(id string) *Peer {
	if s.First != nil && s.First.ID == id {
		return &s.First.Peer
	}
	if i := slices.IndexFunc(s.Peers, func(p Peer) bool { return p.ID == id }); i >= 0 {
		return &s.Peers[i]
	}
	return nil
}
