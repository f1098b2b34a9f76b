package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/follow"
	"github.com/mirror-appliance/appliance/registry/role"
	"github.com/mirror-appliance/appliance/registry/store"
)

// copying is an engine that copies the content of another appliance.
type copying struct {
	engine *follow.Follower
	first  string // the id of the appliance
	stop   context.CancelFunc
	ended  chan struct{}
}

// end returns when nothing of the other appliance is written any more.
func (f *copying) end() {
	if f != nil {
		f.stop()
		<-f.ended
	}
}

// copy copies what the appliance that is followed has, whenever there is one, until ctx ends.
func (f *family) copy(ctx context.Context) error {
	for {
		f.mu.Lock()
		turned := f.turned
		switch s := f.State(); {
		case ctx.Err() != nil:
		case s.Role != role.Follower:
			f.forget(ctx)
		case f.engine == nil:
			f.engine = f.begin(ctx, s)
		}
		f.mu.Unlock()
		select {
		case <-turned:
		case <-ctx.Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			f.engine.end()
			f.engine = nil
			return nil
		}
	}
}

// forget drops what came from an appliance that is not followed any more and does not show. The caller
// holds mu.
func (f *family) forget(ctx context.Context) {
	at, err := f.d.store.Following.State(ctx)
	if err == nil && at.Position != "" {
		err = f.d.store.Following.End(ctx)
	}
	if err != nil && ctx.Err() == nil {
		f.d.log.WarnContext(ctx, "what came from the appliance that was followed cannot be dropped, and takes space", "error", err)
	}
}

// another forgets when this appliance was equal to the first of before, in the place of which it follows another.
func (f *family) another() {
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	if err := f.d.store.Following.ForgetEqual(ctx); err != nil {
		f.d.log.WarnContext(ctx, "that this appliance was equal to another one before is shown until it is equal to the one that it follows now", "error", err)
	}
}

// begin starts the engine. The caller holds mu.
func (f *family) begin(ctx context.Context, s role.State) *copying {
	engine, err := follow.New(f.options(s.ID, *s.First))
	if err != nil { // it was checked before the role was kept
		f.d.log.ErrorContext(ctx, "the other appliance cannot be followed", "error", err)
		return nil
	}
	ctx, cancel := context.WithCancel(f.Within(ctx, func(now role.State) bool {
		return now.Role == role.Follower && now.First != nil && now.First.ID == s.First.ID
	}))
	now := &copying{engine: engine, first: s.First.ID, stop: cancel, ended: make(chan struct{})}
	go func() {
		defer close(now.ended)
		_ = engine.Run(ctx) // returns the error of ctx
	}()
	return now
}

func (f *family) options(id string, first role.First) follow.Options {
	return follow.Options{Store: f.d.store, URL: "https://" + first.Address, User: first.User, Password: first.Password, CA: first.CA,
		Own:   store.Follower{ID: id, Address: f.d.cfg.Address(), CA: f.d.ownCA(), Token: first.Token},
		Users: first.Users, Forget: f.d.auth.Forget, Log: f.d.log}
}

// running returns the engine, or nil.
func (f *family) running() *follow.Follower {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.engine == nil {
		return nil
	}
	return f.engine.engine
}

// catchUp waits until all that the other has is here.
func (f *family) catchUp(ctx context.Context) error {
	engine := f.running()
	if engine == nil {
		if host := f.d.workedAt(ctx); host != "" {
			return hint.New(fmt.Errorf("the daemon on host %s copies what the other appliance has, and this one does not", host), "give the command on host "+host)
		}
		return hint.New(fmt.Errorf("nothing is copied at the moment"), "restart appliance.service, and see its log: journalctl -u appliance")
	}
	return engine.CatchUp(ctx)
}

// followers lists the appliances that follow this one.
func (f *family) followers(ctx context.Context) ([]role.Peer, error) {
	all, err := f.d.store.Feed.Registered(ctx)
	var peers []role.Peer
	for _, one := range all {
		peers = append(peers, role.Peer{ID: one.ID, Address: one.Address, CA: one.CA, Token: one.Token})
	}
	return peers, err
}

// register tells another appliance that this one is about to follow it.
func (f *family) register(ctx context.Context, c *client.Client, first role.First) error {
	at, err := f.d.store.Following.State(ctx)
	if err != nil {
		return err
	}
	_, err = c.RegisterFollower(ctx, api.NewFollower{ID: f.State().ID, Address: f.d.cfg.Address(), CA: f.d.ownCA(), Token: first.Token, Users: first.Users, Position: at.Position})
	return err
}

func (f *family) unregister(ctx context.Context, first role.First) error {
	trust, err := role.Trust(first.CA)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	c := client.NewHTTPS(first.Address, first.User, first.Password, trust)
	defer c.Close()
	return c.RemoveFollower(ctx, f.State().ID)
}

// compare returns what following another appliance changes of the content.
func (f *family) compare(ctx context.Context, q api.FollowRequest) (api.Difference, error) {
	most := 10
	if q.DryRun {
		most = api.MostDifferences
	}
	d, err := follow.Compare(ctx, follow.Options{Store: f.d.store, URL: "https://" + q.Address, User: q.User, Password: q.Password, CA: q.CA}, most)
	return api.Difference{Coming: d.Coming, Going: d.Moving + d.Going, First: d.Example}, err
}

// state returns how far a follower is, nil for another role.
func (f *family) state() *api.Following {
	engine := f.running()
	if engine == nil {
		return nil
	}
	s := engine.State()
	told := &api.Following{Connected: s.Connected, CaughtUp: s.CaughtUp, Equal: timeOrNil(s.Equal), Changes: s.Changes, Blobs: s.Blobs, Bytes: s.Bytes}
	if told.Equal == nil {
		told.Equal = f.lastEqual()
	}
	if s.Error != nil {
		told.Error, told.Hint, told.Retry = s.Error.Error(), hint.Of(s.Error), timeOrNil(s.Retry)
	}
	return told
}

// lastEqual returns when this appliance was last equal to the other, nil if it never was. It is kept, since what copies
// knows it only once it has begun, and may be at another host.
func (f *family) lastEqual() *time.Time {
	ctx, cancel := context.WithTimeout(context.Background(), checkLimit)
	defer cancel()
	at, err := f.d.store.Following.State(ctx)
	if err != nil {
		f.d.log.Warn("when this appliance was last equal to the one that it follows cannot be read", "error", err)
	}
	return timeOrNil(at.Equal)
}

// behind describes how far behind the other a follower is.
func (f *family) behind() string {
	s := f.state()
	if s == nil {
		s = &api.Following{Equal: f.lastEqual()}
	}
	switch {
	case s.Equal == nil:
		return "this appliance has never been equal to it"
	case s.Changes > 0:
		return fmt.Sprintf("this appliance was last equal to it at %s, and %d changes that it knows of have not arrived", s.Equal.Local().Format(time.DateTime), s.Changes)
	}
	return fmt.Sprintf("this appliance was last equal to it at %s; what it has had since may be lost", s.Equal.Local().Format(time.DateTime))
}

// readFirst returns the options for reading the appliance that is followed, if a source is it.
func (f *family) readFirst(source store.Source) (o upstream.Options, ok bool) {
	s := f.State()
	if s.First == nil || canonical(source.Registry) != canonical(s.First.Address) {
		return o, false
	}
	return upstream.Options{Registry: s.First.Address, Retries: retries, Trust: upstream.Trust{Bundle: []byte(s.First.CA)}, Keychain: follow.Login(s.First.User, s.First.Password),
		Gate: f.d.link.Gate, Log: f.d.log, UserAgent: "appliance/" + f.d.version}, true
}
