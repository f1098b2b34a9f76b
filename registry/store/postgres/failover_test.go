//go:build postgres

package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// servers are a primary and its standby, with one database.
type servers struct {
	t                *testing.T
	ctx              context.Context
	primary, standby *postgrestest.Server
	name             string
	options          Options
}

func newServers(t *testing.T) *servers {
	t.Helper()
	s := &servers{t: t, ctx: t.Context()}
	stop := func(of *postgrestest.Server) func() { return func() { must(t, of.Stop()) } }
	var err error
	s.primary, err = postgrestest.Start(s.ctx)
	must(t, err)
	t.Cleanup(stop(s.primary))
	s.standby, err = s.primary.Standby(s.ctx)
	must(t, err)
	t.Cleanup(stop(s.standby))
	must(t, s.primary.Synchronous(s.ctx))
	s.name, _, err = s.primary.Database(s.ctx, "")
	must(t, err)
	must(t, s.standby.Until(s.ctx, `SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = '`+s.name+`')`))
	s.options = Options{Address: s.primary.Both(s.standby, s.name), Migrations: versions(2)}
	return s
}

func (s *servers) open() *DB {
	s.t.Helper()
	db, err := Open(s.ctx, s.options)
	must(s.t, err)
	s.t.Cleanup(func() { must(s.t, db.Close()) })
	return db
}

// at returns the names of the notes at one of the servers.
func (s *servers) at(of *postgrestest.Server) []string {
	s.t.Helper()
	db, err := Beside(of.Both(of, s.name), nil)
	must(s.t, err)
	names, err := database.Column[string](s.ctx, db, `SELECT name FROM notes ORDER BY name`)
	must(s.t, errors.Join(err, db.Close()))
	return names
}

// write writes a note, again and again while the database does not take it.
func (s *servers) write(db *DB, name string) {
	for {
		err := db.Share(context.WithoutCancel(s.ctx), insertNote(name, 1))
		if err == nil || strings.Contains(err.Error(), "duplicate key") && !errors.As(err, new(*database.UnavailableError)) {
			return // the latter: it was committed before the connection was lost
		}
		if !errors.As(err, new(*database.UnavailableError)) || hint.Of(err) == "" {
			s.t.Errorf("a write during the fail-over: %v", err)
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// pushers write notes, one after the other, until stopped.
type pushers struct {
	stop context.CancelFunc
	over sync.WaitGroup

	mu           sync.Mutex // guards what follows
	acknowledged []string
}

func (s *servers) push(dbs ...*DB) *pushers {
	ctx, stop := context.WithCancel(s.ctx)
	p := &pushers{stop: stop}
	for i, db := range dbs {
		for j := range 3 {
			p.over.Go(func() {
				for n := 0; ctx.Err() == nil; n++ {
					name := fmt.Sprintf("push-%d-%d-%d", i, j, n)
					s.write(db, name)
					p.mu.Lock()
					p.acknowledged = append(p.acknowledged, name)
					p.mu.Unlock()
				}
			})
		}
	}
	return p
}

// more waits until so many more are acknowledged.
func (p *pushers) more(n int) {
	count := func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		return len(p.acknowledged)
	}
	for until := count() + n; count() < until; time.Sleep(time.Millisecond) {
	}
}

// The primary dies while two daemons write, and its standby is promoted: both go on there. No acknowledged write is lost,
// and what a daemon has at the server, it has again: its lease, what it does alone, and what it hears of the other.
func TestFailOver(t *testing.T) {
	s := newServers(t)
	s.options.Several = true
	s.options.look = 50 * time.Millisecond
	s.options.Topic = func(c database.Change) string { return c.Table }
	s.options.Watched = []Watched{{"notes", []string{"value", "name"}, []database.Op{database.Insert}}}
	s.options.Changed, s.options.Committed = func(database.Change) {}, func() {}
	heard := make(chan []string, 10_000)
	s.options.Told = func([]string) {}
	a := s.open()
	s.options.Told = func(topics []string) { heard <- topics }
	b := s.open()
	<-heard // it listens
	job, err := a.Alone(s.ctx, "job")
	must(t, err)
	defer job.Release()

	p := s.push(a, b)
	p.more(100)
	must(t, s.primary.Kill())
	if err := a.Check(s.ctx); !errors.As(err, new(*database.UnavailableError)) {
		t.Errorf("health without a primary: %v", err)
	}
	must(t, s.standby.Promote(s.ctx))
	p.more(100)
	p.stop()
	p.over.Wait()
	there := s.at(s.standby)
	for _, name := range p.acknowledged {
		if !slices.Contains(there, name) {
			t.Errorf("%s was acknowledged, and is lost", name)
		}
	}
	t.Logf("%d writes acknowledged, %d there", len(p.acknowledged), len(there))

	<-job.Lost.Done()
	again, err := b.Alone(s.ctx, "job")
	must(t, err)
	defer again.Release()
	if _, err := a.Alone(s.ctx, "job"); !errors.As(err, new(*database.HeldError)) {
		t.Errorf("both do what one does alone: %v", err)
	}
	for _, db := range []*DB{a, b} {
		must(t, db.Renew(s.ctx))
		if !db.Holds(db.Member()) {
			t.Error("a daemon has no lease at the new primary")
		}
	}
	for topics := <-heard; topics != nil; topics = <-heard { // until it listens again
	}
	s.write(a, "told")
	for topics := <-heard; len(topics) == 0; topics = <-heard {
	}
}

// An old primary that takes writes again is neither written nor read, although the address names it first.
func TestFailOver_theOldPrimaryIsBack(t *testing.T) {
	s := newServers(t)
	db := s.open()
	s.write(db, "before")
	must(t, s.primary.Kill())
	must(t, s.standby.Promote(s.ctx))
	s.write(db, "after")
	must(t, s.primary.Begin(s.ctx))
	must(t, s.primary.Exec(s.ctx, `ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`))

	const end = `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'appliance on %'`
	must(t, s.standby.Exec(s.ctx, end))
	s.write(db, "connected again")
	must(t, db.Close())
	db = s.open() // which knows nothing of the fail-over
	s.write(db, "opened again")
	names, err := database.Column[string](s.ctx, db.Reader(), `SELECT name FROM notes ORDER BY name`)
	must(t, err)
	if want := []string{"after", "before", "connected again", "opened again"}; !slices.Equal(names, want) || !slices.Equal(s.at(s.standby), want) {
		t.Errorf("read %q, and %q are at the new primary", names, s.at(s.standby))
	}
	if old := s.at(s.primary); !slices.Equal(old, []string{"before"}) {
		t.Errorf("the old primary has %q", old)
	}

	must(t, s.standby.Kill())
	err = db.Share(s.ctx, insertNote("lost", 1))
	for errors.As(err, new(*database.UnavailableError)) && !strings.Contains(err.Error(), "old primary") { // the connection is found lost first
		err = db.Share(s.ctx, insertNote("lost", 1))
	}
	if !errors.As(err, new(*database.UnavailableError)) || !strings.Contains(hint.Of(err), "pg_rewind") {
		t.Errorf("a write at the old primary alone: %v, hint %q", err, hint.Of(err))
	}
	must(t, s.standby.Begin(s.ctx))
	s.write(db, "at last")
}

// A daemon that learns of the new primary by one of its connections leaves the old one with all of them.
func TestFailOver_leavesTheOldPrimary(t *testing.T) {
	s := newServers(t)
	s.options.Several = true
	db := s.open()
	job, err := db.Alone(s.ctx, "job")
	must(t, err)
	defer job.Release()
	s.write(db, "before")
	must(t, s.primary.Exec(s.ctx, `ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`))
	must(t, s.standby.Promote(s.ctx)) // while the primary lives
	db.reader.SetMaxIdleConns(0)      // the next read connects
	names, err := database.Column[string](s.ctx, db.Reader(), `SELECT name FROM notes`)
	must(t, err)
	s.write(db, "after")
	if old, now := s.at(s.primary), s.at(s.standby); len(names) != 1 || len(old) != 1 || len(now) != 2 {
		t.Errorf("read %q; the old primary has %q, the new one %q", names, old, now)
	}
	<-job.Lost.Done()
}

// A daemon whose connections to the old primary all work finds out by itself that a standby was promoted.
func TestFailOver_looksForTheNewPrimary(t *testing.T) {
	for _, several := range []bool{false, true} {
		t.Run(fmt.Sprint(several), func(t *testing.T) {
			s := newServers(t)
			s.options.Several = several
			db := s.open()
			s.write(db, "before")
			_, err := database.Column[string](s.ctx, db.Reader(), `SELECT name FROM notes`) // a connection that is kept
			must(t, err)
			must(t, s.primary.Exec(s.ctx, `ALTER SYSTEM RESET synchronous_standby_names`, `SELECT pg_reload_conf()`))
			must(t, s.standby.Promote(s.ctx))
			end := time.Now().Add(6 * hostsEvery)
			for n := 0; !slices.Contains(s.at(s.standby), fmt.Sprint(n-1)); n++ {
				if time.Now().After(end) {
					t.Fatal("it goes on to write at the old primary")
				}
				s.write(db, fmt.Sprint(n))
				if _, err := database.Column[string](s.ctx, db.Reader(), `SELECT name FROM notes`); err != nil && !errors.As(err, new(*database.UnavailableError)) {
					t.Fatal(err)
				}
				time.Sleep(hostsEvery / 20)
			}
		})
	}
}

// A standby alone takes no daemon, and a host that answers nothing keeps none waiting.
func TestFailOver_whichHost(t *testing.T) {
	s := newServers(t)
	o := s.options
	o.Address = s.standby.Both(s.standby, s.name)
	var down *database.UnavailableError
	if db, err := Open(s.ctx, o); !errors.As(err, &down) || codeOf(err) != "25006" || !strings.Contains(hint.Of(err), "was promoted") {
		t.Errorf("a standby: %v, %v, hint %q", db, err, hint.Of(err))
	}
	dir := t.TempDir()
	l, err := net.Listen("unix", filepath.Join(dir, ".s.PGSQL.5432"))
	must(t, err)
	defer l.Close()
	s.options.Address = strings.Replace(s.options.Address, "host=", "host="+dir+",", 1) + "&connect_timeout=3600"
	s.write(s.open(), "a")
}

// A commit whose wait for the standby an administrator ends is not acknowledged: a fail-over would lose it.
func TestFailOver_aCommitWithoutTheStandby(t *testing.T) {
	s := newServers(t)
	db := s.open()
	s.write(db, "before")
	must(t, s.standby.Halt())
	written := make(chan error, 1)
	go func() { written <- db.Share(s.ctx, insertNote("waits", 1)) }()
	const waits = `FROM pg_stat_activity WHERE wait_event = 'SyncRep'`
	must(t, s.primary.Until(s.ctx, `SELECT count(*) = 1 `+waits))
	select {
	case err := <-written:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	must(t, s.primary.Exec(s.ctx, `SELECT pg_cancel_backend(pid) `+waits))
	if err := <-written; !errors.As(err, new(*database.UnavailableError)) || !strings.Contains(hint.Of(err), "synchronous_standby_names") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
	must(t, s.standby.Begin(s.ctx))
	s.write(db, "after")
	if names := s.at(s.primary); !slices.Equal(names, []string{"after", "before", "waits"}) {
		t.Errorf("the notes are %q", names)
	}
}

// A standby that was promoted without what a daemon wrote when it started ends that daemon, and takes the next one.
func TestFailOver_theStandbyLacksTheDaemon(t *testing.T) {
	s := newServers(t)
	first, err := Open(s.ctx, s.options)
	must(t, err)
	must(t, first.Close())
	must(t, s.primary.Exec(s.ctx, `ALTER SYSTEM SET synchronous_standby_names = ''`, `SELECT pg_reload_conf()`))
	must(t, s.standby.Halt())
	daemon := s.open()
	s.write(daemon, "lost")
	must(t, s.primary.Halt())
	must(t, s.standby.Begin(s.ctx))
	must(t, s.standby.Promote(s.ctx))
	for err = error(new(database.UnavailableError)); errors.As(err, new(*database.UnavailableError)); {
		err = daemon.Share(s.ctx, insertNote("refused", 1))
	}
	if !errors.As(err, new(*database.LockedError)) || !strings.Contains(err.Error(), "another appliance has taken") {
		t.Errorf("got %v", err)
	}
	s.write(s.open(), "next")
	if names := s.at(s.standby); !slices.Equal(names, []string{"next"}) {
		t.Errorf("the notes are %q", names)
	}
}
