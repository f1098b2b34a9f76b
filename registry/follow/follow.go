// Package follow keeps a store equal to that of another appliance, the first.
//
// Run reads the feed of the first (/api/v1/changes), fetches the manifests and blobs that are lacking
// over /v2, and shows all of it once it is exactly what the first had at one moment: so a run of the
// first appears whole or not at all. After a restart or a kill it goes on from the saved position, and
// nothing is fetched twice that is here whole.
//
// Refused: a log of operations, since it grows with what happened and not with what there is; the feed
// has each thing once, with its present state. Also refused: comparing whole lists each time, which costs
// as much after a quiet week as at first.
package follow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store"
)

// Options configures a Follower.
type Options struct {
	Store          *store.Store
	URL            string // of the first, https://host[:port]
	User, Password string // of an administrator there
	CA             string // PEM of the CA of the first; "": the CAs of the system
	// Own names this appliance to the first: its id, its address (host:port), its CA, and the token with
	// which the first asks it.
	Own   store.Follower
	Users bool // follow the accounts, too
	// Forget drops what is cached of a user whose account changed or went. nil: nothing is cached.
	Forget func(user string)
	// Sleep waits before another attempt. nil: a timer.
	Sleep func(ctx context.Context, d time.Duration) error
	Log   *slog.Logger // nil: discard
}

// State is how far a Follower is, for people.
type State struct {
	Connected bool      // the last request was answered
	Equal     time.Time // when this appliance was last equal to the first; zero: never
	CaughtUp  bool      // it is equal now, as far as it knows
	Changes   int       // that have not been shown here yet
	Blobs     int       // being fetched or waiting, of the changes that were read
	Bytes     int64     // of them
	Error     error     // of the last attempt, nil after a success
	Retry     time.Time // of the next attempt after Error
}

const (
	waits      = 30 * time.Second // a request for changes, while there are none
	firstRetry = time.Second
	equalSaved = time.Minute // between two saves of the time of being equal
	retries    = 3           // of a request for content
)

// Follower follows one appliance.
type Follower struct {
	o       Options
	feed    *client.Client
	content *upstream.Client
	page    int // of changes, see api.ChangesLimit

	mu       sync.Mutex // guards what follows
	state    State
	asked    uint64        // counts the requests for changes
	equalAt  uint64        // the last that led to being equal
	wanted   uint64        // the last that a caller of CatchUp is waiting for
	failures uint64        // attempts that failed
	hurry    func()        // ends a wait for changes or for another attempt
	moved    chan struct{} // closed when equalAt or failures changes
}

// New returns a Follower. It sends no request.
func New(o Options) (*Follower, error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Sleep == nil {
		o.Sleep = retry.Sleep
	}
	host, trust, err := o.first()
	if err != nil {
		return nil, err
	}
	content, err := upstream.New(upstream.Options{Registry: host, Trust: upstream.Trust{Bundle: []byte(o.CA)}, Keychain: login{o.User, o.Password},
		Retries: retries, Sleep: o.Sleep, OnlyHeld: true, Log: o.Log, UserAgent: "appliance follow"})
	if err != nil {
		return nil, err
	}
	return &Follower{o: o, feed: client.NewHTTPS(host, o.User, o.Password, trust), content: content, page: store.MaxChanges,
		hurry: func() {}, moved: make(chan struct{})}, nil
}

// first returns the host of the first, and what is trusted of it.
func (o Options) first() (host string, trust *tls.Config, err error) {
	at, err := url.Parse(o.URL)
	if err != nil || at.Scheme != "https" || at.Host == "" || strings.Trim(at.Path, "/") != "" {
		return "", nil, hint.New(fmt.Errorf("%q is not the address of an appliance", o.URL), "for example https://registry.example.com:8443")
	}
	trust, err = upstream.TLSConfig(upstream.Trust{Bundle: []byte(o.CA)}, false)
	return at.Host, trust, err
}

// Login returns a keychain with one login, whatever is asked.
func Login(user, password string) authn.Keychain { return login{user, password} }

// login is the keychain of the first alone.
type login struct{ user, password string }

// Resolve implements authn.Keychain.
func (l login) Resolve(authn.Resource) (authn.Authenticator, error) {
	return authn.FromConfig(authn.AuthConfig{Username: l.user, Password: l.password}), nil
}

// Run follows until ctx ends, and returns its error. Failures of the first and of the way to it are
// logged and retried.
func (f *Follower) Run(ctx context.Context) error {
	defer f.feed.Close()
	defer f.content.Close()
	policy := retry.Policy{First: firstRetry}
	registered := false
	for failures := 0; ctx.Err() == nil; {
		err := f.attempt(ctx, &registered)
		if err == nil {
			failures = 0
			continue
		}
		if ctx.Err() != nil {
			break
		}
		failures++
		delay := policy.Delay(failures, 0)
		f.failed(err, time.Now().Add(delay))
		f.o.Log.WarnContext(ctx, "could not follow the first, and try again", "first", f.o.URL, "after", delay.Round(time.Millisecond), "error", err)
		waiting, cancel := f.hurried(ctx)
		_ = f.o.Sleep(waiting, delay) // it ends early for a caller of CatchUp, too
		cancel()
	}
	return ctx.Err()
}

// attempt registers if need be, and reads a page.
func (f *Follower) attempt(ctx context.Context, registered *bool) error {
	if !*registered {
		if err := f.register(ctx); err != nil {
			return err
		}
		*registered = true
	}
	err := f.pass(ctx)
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusGone {
		*registered = false
	}
	return err
}

// register tells the first of this appliance. Where the position is not good any more, a list of all follows.
func (f *Follower) register(ctx context.Context) error {
	at, err := f.o.Store.Following.State(ctx)
	if err != nil {
		return err
	}
	f.set(func(s *State) { s.Equal, s.Changes = at.Equal, at.Changes })
	own := f.o.Own
	position, err := f.feed.RegisterFollower(ctx, api.NewFollower{ID: own.ID, Address: own.Address, CA: own.CA, Token: own.Token,
		Users: f.o.Users, Position: at.Position})
	if err != nil {
		f.answered(err)
		return f.failure("register with", err)
	}
	f.reached()
	if position == at.Position {
		return nil
	}
	f.o.Log.InfoContext(ctx, "the first lists all that it has", "first", f.o.URL, "before", at.Position != "")
	return f.o.Store.Following.Begin(ctx, position)
}

// pass reads a page, fetches what it needs, and shows what came once that is all.
func (f *Follower) pass(ctx context.Context) error {
	at, err := f.o.Store.Following.State(ctx)
	if err != nil {
		return err
	}
	wait := waits
	if at.Changes > 0 || at.Whole || f.State().Error != nil { // which ends with an answer
		wait = 0
	}
	page, asked, err := f.read(ctx, at.Position, wait)
	if err != nil || page == nil {
		return err
	}
	f.reached()
	f.set(func(s *State) {
		s.Changes = at.Changes + len(page.Changes) + page.Pending
		s.CaughtUp = s.CaughtUp && s.Changes == 0
	})
	if page.Next != at.Position {
		if err := f.o.Store.Following.Save(ctx, *page); err != nil {
			return err
		}
	}
	if err := f.fetch(ctx); err != nil {
		return err
	}
	f.set(func(s *State) { s.Error, s.Retry = nil, time.Time{} })
	if !page.CaughtUp {
		return nil
	}
	return f.show(ctx, asked, at.Whole || at.Changes+len(page.Changes) > 0)
}

// show shows what came, if something did.
func (f *Follower) show(ctx context.Context, asked uint64, came bool) error {
	now := time.Now()
	if came {
		changed, err := f.o.Store.Following.Commit(ctx, f.o.Users)
		if err != nil {
			return err
		}
		for _, user := range changed {
			if f.o.Forget != nil {
				f.o.Forget(user)
			}
		}
	} else if now.Sub(f.State().Equal) >= equalSaved {
		if err := f.o.Store.Following.SetEqual(ctx); err != nil {
			return err
		}
	}
	f.set(func(s *State) { *s = State{Connected: true, CaughtUp: true, Equal: now} })
	f.mu.Lock()
	defer f.mu.Unlock()
	f.equalAt = asked
	f.announce()
	return nil
}

// read returns what follows a position, and counts the request. nil: a caller of CatchUp does not wait so long.
func (f *Follower) read(ctx context.Context, position string, wait time.Duration) (page *store.Page, asked uint64, err error) {
	f.mu.Lock()
	f.asked++
	asked = f.asked
	if asked <= f.wanted {
		wait = 0
	}
	f.mu.Unlock()
	waiting, cancel := f.hurried(ctx)
	defer cancel()
	told, err := f.feed.Feed(waiting, f.o.Own.ID, position, f.page, wait)
	if err != nil {
		if waiting.Err() != nil && ctx.Err() == nil {
			return nil, asked, nil
		}
		f.answered(err)
		return nil, asked, f.failure("read the changes of", err)
	}
	page = &store.Page{Next: told.Next, CaughtUp: told.CaughtUp, Pending: told.Left}
	for _, c := range told.Changes {
		page.Changes = append(page.Changes, store.Change{Kind: c.Kind, Repository: c.Repository, Name: c.Name, State: c.State})
	}
	return page, asked, nil
}

// failure returns the error of a request to the first.
func (f *Follower) failure(what string, err error) error {
	var refused *client.Refused
	if errors.As(err, &refused) && refused.Status == http.StatusUnauthorized {
		return hint.New(fmt.Errorf("%s does not accept the login of user %s any more", f.o.URL, f.o.User),
			"give another one: "+api.FollowCommand(strings.TrimPrefix(f.o.URL, "https://"))+"; or have this appliance be one of its own, with what it has: appliance follow --stop")
	}
	if client.Untrusted(err) {
		return hint.New(fmt.Errorf("the certificate of %s cannot be verified: %w", f.o.URL, err),
			"if it has another CA now, name that: "+api.FollowCommand(strings.TrimPrefix(f.o.URL, "https://"))+"; the CA is on its host in quay-rootCA/rootCA.pem")
	}
	return fmt.Errorf("%s %s: %w", what, f.o.URL, err)
}

// hurried returns a context that a caller of CatchUp ends.
func (f *Follower) hurried(ctx context.Context) (context.Context, context.CancelFunc) {
	within, cancel := context.WithCancel(ctx)
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hurry = cancel
	return within, cancel
}

func (f *Follower) set(change func(s *State)) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change(&f.state)
}

// answered records whether the first answered a request that failed. Errors of content and of this
// appliance, such as a full disk, say nothing of that.
func (f *Follower) answered(err error) {
	f.set(func(s *State) { s.Connected = errors.As(err, new(*client.Refused)) })
}

// reached records an answer of the first. What was wrong with the way to it is over.
func (f *Follower) reached() {
	f.set(func(s *State) {
		if !s.Connected {
			s.Error, s.Retry = nil, time.Time{}
		}
		s.Connected = true
	})
}

// failed records the error of an attempt.
func (f *Follower) failed(err error, again time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.state.Error, f.state.Retry = err, again
	f.failures++
	f.announce()
}

// announce is called with mu held.
func (f *Follower) announce() {
	close(f.moved)
	f.moved = make(chan struct{})
}

// State returns how far it is.
func (f *Follower) State() State {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state
}

// CatchUp returns once this store has everything that the first had when it was called. It needs a Run
// under way. The error of an attempt that fails meanwhile is its error.
func (f *Follower) CatchUp(ctx context.Context) error {
	f.mu.Lock()
	want, failures := f.asked+1, f.failures
	f.wanted = want
	f.hurry()
	f.mu.Unlock()
	for {
		f.mu.Lock()
		done, failed, err, moved := f.equalAt >= want, f.failures > failures, f.state.Error, f.moved
		f.mu.Unlock()
		switch {
		case done:
			return nil
		case failed && err != nil:
			return err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
