package role

import (
	"context"
	"crypto/subtle"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

const (
	// startLimit is how long changes wait after the start for what the others know.
	startLimit = 3 * time.Second
	// talkLimit bounds one exchange. What makes the other one give way takes yieldLimit: its changes
	// under way end before.
	talkLimit  = 10 * time.Second
	yieldLimit = 2 * time.Minute
	// talkEvery is the time between two exchanges with an appliance that answers.
	talkEvery = 15 * time.Second
)

// errOther refuses an appliance that does not belong to the family.
var errOther = errors.New("these two appliances are not of one family")

// Talk exchanges what is known with the others until ctx ends: at once, and changes of content wait for that,
// at every interval, and after a change of the role.
func (f *Family) Talk(ctx context.Context) error {
	f.first(ctx)
	failures, next := map[string]int{}, map[string]time.Time{}
	again := retry.Policy{First: talkEvery}
	for {
		var mu sync.Mutex
		var all sync.WaitGroup
		for _, p := range f.expected(ctx) {
			if f.Now().Before(next[p.ID]) {
				continue
			}
			all.Go(func() {
				err := f.talk(ctx, p)
				mu.Lock()
				defer mu.Unlock()
				next[p.ID] = f.Now().Add(talkEvery)
				if failures[p.ID]++; err == nil || errors.As(err, new(*strangerError)) {
					delete(failures, p.ID)
				} else {
					next[p.ID] = next[p.ID].Add(again.Delay(failures[p.ID], 0))
					f.Log.DebugContext(ctx, "another appliance of the family was not reached", "address", p.Address, "error", err)
				}
			})
		}
		all.Wait()
		select {
		case <-ctx.Done():
			return nil
		case <-f.wake:
			clear(next)
		case <-time.After(talkEvery):
		}
	}
}

// first asks all others once, and then lets changes pass.
func (f *Family) first(ctx context.Context) {
	defer f.gate.ask()
	limited, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	var all sync.WaitGroup
	for _, p := range f.expected(limited) {
		all.Go(func() {
			if err := f.talk(limited, p); err != nil {
				f.Log.WarnContext(ctx, "another appliance of the family could not be asked at the start whether it has taken this one's place",
					"address", p.Address, "error", err)
			}
		})
	}
	all.Wait()
}

// hasten has the others told at once.
func (f *Family) hasten() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// others returns the appliances to exchange with: those of the state, and the followers.
func (f *Family) others(ctx context.Context) []Peer {
	s := f.State()
	all := slices.Clone(s.Peers)
	if s.First != nil {
		all = append(all, s.First.Peer)
	}
	if f.Followers == nil {
		return all
	}
	followers, err := f.Followers(ctx)
	if err != nil {
		f.Log.WarnContext(ctx, "the followers of this appliance cannot be listed", "error", err)
	}
	for _, p := range followers {
		if !slices.ContainsFunc(all, func(other Peer) bool { return other.ID == p.ID }) {
			all = append(all, p)
		}
	}
	return all
}

func (f *Family) message() api.Exchange {
	s := f.State()
	m := api.Exchange{ID: s.ID, Lineage: s.Lineage, Role: string(s.Role), Known: api.Term(s.Known)}
	if s.First != nil {
		m.Above = append([]string{s.First.ID}, s.First.Above...)
	}
	return m
}

// talk exchanges with another appliance what both know.
func (f *Family) talk(ctx context.Context, p Peer) error {
	ctx, cancel := context.WithTimeout(ctx, talkLimit)
	defer cancel()
	answer, err := f.tell(ctx, p, f.message())
	if err != nil {
		return err
	}
	return f.hear(ctx, answer)
}

// tell sends a message, and returns the answer: *strangerError if that is that the other appliance does not
// know this one, which is kept.
func (f *Family) tell(ctx context.Context, p Peer, m api.Exchange) (api.Exchange, error) {
	trust, err := Trust(p.CA)
	if err != nil {
		return api.Exchange{}, err
	}
	c := client.NewHTTPS(p.Address, m.ID, p.Token, trust)
	defer c.Close()
	answer, err := c.Exchange(ctx, m)
	var refusal *client.Refused
	switch {
	case err == nil && answer.ID != p.ID:
		err = fmt.Errorf("another appliance answers at %s than before", p.Address)
	case errors.As(err, &refusal) && refusal.Status == http.StatusUnauthorized:
		err = f.unknownTo(ctx, p)
	}
	return answer, err
}

// Trust returns how an appliance with a CA is verified: by that, and by the system's.
func Trust(ca string) (*tls.Config, error) {
	if ca == "" {
		return nil, nil
	}
	roots, err := x509.SystemCertPool()
	if err != nil {
		roots = x509.NewCertPool()
	}
	if !roots.AppendCertsFromPEM([]byte(ca)) {
		return nil, hint.New(errors.New("the CA has no certificate in PEM"), "name a file as https://HOST:PORT/ca.crt has it")
	}
	return &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, nil
}

// hear takes what another appliance knows. A primary that hears of a newer one is superseded when hear
// returns, and no change is under way any more.
func (f *Family) hear(ctx context.Context, from api.Exchange) error {
	f.turning.Lock()
	defer f.turning.Unlock()
	ctx = context.WithoutCancel(ctx)
	if err := f.reload(ctx); err != nil {
		return err
	}
	s := f.State()
	theirs := Term(from.Known)
	first := s.First != nil && s.First.ID == from.ID
	moved := first && from.Lineage != s.Lineage
	switch {
	case from.Lineage != s.Lineage && !first:
		return errOther
	case theirs.After(s.Known), moved, s.elsewhere(from):
	case first && !slices.Equal(s.First.Above, from.Above), s.told(from.ID, theirs):
	default:
		return nil
	}
	var row *Peer // of a follower that takes this one's place
	if s.Role == Primary && theirs.After(s.Known) && s.peer(theirs.ID) == nil {
		row = f.other(ctx, theirs.ID)
	}
	return f.turn(ctx, func(n *State) {
		if row != nil { // which the store forgets when that does not follow any more
			n.setPeer(*row)
		}
		if p := n.peer(from.ID); p != nil {
			p.Told, p.Unknown, p.Forgotten = theirs, false, false
		}
		if first {
			n.First.Above, n.Lineage = from.Above, from.Lineage
		}
		if n.elsewhere(from) {
			n.primaryMoves(theirs.Address)
		}
		if !theirs.After(n.Known) && !moved {
			return
		}
		n.Known = theirs
		if n.Role == Primary && theirs.ID != n.ID {
			n.Role = Superseded
		}
	})
}

// told reports whether a peer has confirmed a newer term than before, an appliance knows this one again, or one that
// was forgotten comes back.
func (s *State) told(id string, now Term) bool {
	p := s.peer(id)
	return p != nil && (p.Unknown || p.Forgotten || now.After(p.Told) && (s.First == nil || s.First.ID != id))
}

// elsewhere reports whether the primary has another address than before. It tells that itself, and to those
// that follow it through others, those do.
func (s *State) elsewhere(from api.Exchange) bool {
	theirs := Term(from.Known)
	return theirs.ID == s.Known.ID && theirs.Generation == s.Known.Generation && theirs.ID != s.ID && theirs.Address != s.Known.Address &&
		(from.ID == theirs.ID || s.First != nil && s.First.ID == from.ID)
}

// primaryMoves takes another address of the primary, also where the one of before was asked.
func (s *State) primaryMoves(address string) {
	for i := range s.Peers {
		if p := &s.Peers[i]; p.ID == s.Known.ID && p.Address == s.Known.Address {
			p.Address = address
		}
	}
	s.Known.Address = address
}

// maxMessage bounds the message of another appliance.
const maxMessage = 64 << 10

// ServeHTTP answers api.ExchangeRoles, for an appliance that has the token.
func (f *Family) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", api.Product)
	w.Header().Set("Content-Type", "application/json")
	refuse := func(status int, problem string) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(api.Refusal{Problem: problem}) // fails only if the client went away
	}
	if !f.known(r) {
		refuse(http.StatusUnauthorized, "this appliance knows no other one with that token")
		return
	}
	var m api.Exchange
	if err := json.NewDecoder(io.LimitReader(r.Body, maxMessage)).Decode(&m); err != nil {
		refuse(http.StatusBadRequest, "the message of the other appliance is malformed")
		return
	}
	// A follower of this one may not know yet that it has joined another family.
	if err := f.hear(r.Context(), m); err != nil && !errors.Is(err, errOther) {
		f.Log.ErrorContext(r.Context(), "what another appliance of the family has told could not be kept", "error", err)
		refuse(http.StatusInternalServerError, "it could not be kept")
		return
	}
	_ = json.NewEncoder(w).Encode(f.message())
}

// known reports whether a request has the token of a peer.
func (f *Family) known(r *http.Request) bool {
	id, token, ok := r.BasicAuth()
	if !ok || token == "" {
		return false
	}
	for _, p := range f.others(r.Context()) {
		if p.ID == id && p.Token != "" {
			return subtle.ConstantTimeCompare([]byte(p.Token), []byte(token)) == 1
		}
	}
	return false
}
