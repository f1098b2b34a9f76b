//go:build postgres

package misses

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/postgres"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

// site is daemons with one database, whose clocks a test turns.
type site struct {
	t       *testing.T
	address string
	now     time.Time
	notes   notes
	log     bytes.Buffer
}

func newSite(t *testing.T, server *postgrestest.Server) *site {
	t.Helper()
	_, address, err := server.Database(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	return &site{t: t, address: address, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), notes: notes{}}
}

// daemon opens the list of a daemon that reaches the database by an address.
func (s *site) daemon(address string) *Log {
	s.t.Helper()
	db, err := postgres.Open(s.t.Context(), postgres.Options{Address: address, Migrations: migrations.Postgres(), Own: migrations.Own(), Several: true})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() }) // a test may have cut its connections
	return Open(s.t.Context(), s.notes, sharedrows.New(db).Misses, slog.New(slog.NewTextHandler(&s.log, nil)), func() time.Time { return s.now })
}

// is asserts what a daemon lists, as REPOSITORY:REFERENCE COUNT USER.
func (s *site) is(when string, l *Log, want ...string) {
	s.t.Helper()
	var got []string
	for _, m := range list(s.t, l, none) {
		got = append(got, fmt.Sprintf("%s:%s %d %s", m.Repository, m.Reference, m.Count, m.User))
	}
	if strings.Join(got, ", ") != strings.Join(want, ", ") {
		s.t.Errorf("%s the list is %q, want %q", when, got, want)
	}
}

func (s *site) miss(l *Log, reference, user string) {
	s.now = s.now.Add(time.Second)
	l.Missed("app", reference, user, "192.0.2.1:5000")
}

func TestPostgres_misses(t *testing.T) {
	server, err := postgrestest.Start(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(); err != nil {
			t.Error(err)
		}
	})
	for name, test := range map[string]func(*testing.T, *postgrestest.Server){
		"the list is the sum": sums, "nothing is written of nothing": idle, "the list is bounded": bounds,
		"what exists is forgotten": forgets, "a clear is one at all": clears, "a write that fails is made up for": fails,
		"the list of one daemon goes on": adopts,
	} {
		t.Run(name, func(t *testing.T) { test(t, server) })
	}
}

func sums(t *testing.T, server *postgrestest.Server) {
	s := newSite(t, server)
	a, b := s.daemon(s.address), s.daemon(s.address)
	first := s.now.Add(time.Second)
	s.miss(a, "v1", "a")
	s.miss(b, "v1", "b")
	s.miss(b, "v2", "b")
	a.save(t.Context())
	b.save(t.Context())
	for _, l := range []*Log{a, b} {
		s.is("once both wrote", l, "app:v2 1 b", "app:v1 2 b")
	}
	s.miss(a, "v1", "a")
	s.is("with what is not written yet", a, "app:v1 3 a", "app:v2 1 b")
	a.save(t.Context())
	a.save(t.Context())
	b.save(t.Context())
	s.is("after more writes", b, "app:v1 3 a", "app:v2 1 b")
	if all := list(t, b, none); !all[0].First.Equal(first) || !all[0].Last.Equal(s.now) || all[0].Address != "192.0.2.1" {
		t.Errorf("%+v", all[0])
	}
}

// idle counts the round trips of a daemon.
func idle(t *testing.T, server *postgrestest.Server) {
	s := newSite(t, server)
	proxy, err := server.Proxy()
	if err != nil {
		t.Fatal(err)
	}
	defer proxy.Close()
	l := s.daemon(proxy.Address(s.address))
	s.miss(l, "v1", "a")
	l.save(t.Context())
	before := proxy.Answers.Load()
	for range 100 {
		l.save(t.Context())
	}
	for i := range 100 {
		s.miss(l, fmt.Sprint("w", i), "a")
	}
	if n := proxy.Answers.Load() - before; n != 0 {
		t.Errorf("%d round trips without a write that is due", n)
	}
	l.save(t.Context())
	if n := proxy.Answers.Load() - before; n == 0 || n > 20 {
		t.Errorf("a write of 100 misses has %d round trips", n)
	}
}

func bounds(t *testing.T, server *postgrestest.Server) {
	s := newSite(t, server)
	a, b := s.daemon(s.address), s.daemon(s.address)
	for i := range most {
		s.miss(a, fmt.Sprint("a", i), "a")
		s.miss(b, fmt.Sprint("b", i), "b")
	}
	a.save(t.Context())
	b.save(t.Context())
	all := list(t, a, none)
	if len(all) != most || all[0].Reference != fmt.Sprint("b", most-1) || all[most-1].Reference != fmt.Sprint("a", most/2) {
		t.Errorf("%d are listed, from %s to %s", len(all), all[0].Reference, all[len(all)-1].Reference)
	}
}

func forgets(t *testing.T, server *postgrestest.Server) {
	s := newSite(t, server)
	a, b := s.daemon(s.address), s.daemon(s.address)
	s.miss(a, "v1", "a")
	s.miss(a, "v2", "a")
	a.save(t.Context())
	s.miss(b, "v1", "b")
	is := func(_ context.Context, _, reference string) bool { return reference == "v1" }
	if all := list(t, b, is); len(all) != 1 || all[0].Reference != "v2" {
		t.Errorf("%+v", all)
	}
	b.save(t.Context())
	s.is("once it existed", a, "app:v2 1 a")
	again := func(_ context.Context, _, reference string) bool {
		if reference == "v2" { // it is missed again before it is forgotten
			s.miss(b, "v2", "b")
			b.save(t.Context())
		}
		return reference == "v2"
	}
	list(t, a, again)
	s.is("missed again meanwhile", a, "app:v2 2 b")
}

func clears(t *testing.T, server *postgrestest.Server) {
	s := newSite(t, server)
	a, b := s.daemon(s.address), s.daemon(s.address)
	s.miss(a, "v1", "a")
	s.miss(b, "v2", "b")
	a.save(t.Context())
	s.miss(a, "v3", "a")
	s.now = s.now.Add(time.Second)
	if err := a.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.save(t.Context()) // of before
	s.is("after a clear", a)
	s.miss(b, "v4", "b")
	b.save(t.Context())
	s.is("missed after a clear", a, "app:v4 1 b")
}

func fails(t *testing.T, server *postgrestest.Server) {
	s := newSite(t, server)
	a := s.daemon(s.address)
	s.miss(a, "v1", "a")
	ended, end := context.WithCancel(t.Context())
	end()
	a.save(ended)
	if !strings.Contains(s.log.String(), "could not be written") {
		t.Errorf("the log is %q", s.log.String())
	}
	s.miss(a, "v1", "b")
	s.miss(a, "v2", "b")
	a.save(t.Context())
	s.is("after a write that failed", s.daemon(s.address), "app:v2 1 b", "app:v1 2 b")
	if _, err := a.List(ended, none); err == nil {
		t.Error("a list that cannot be read has no error")
	}
	if err := a.Clear(ended); err == nil {
		t.Error("a clear that cannot be written has no error")
	}
	s.is("after a clear that failed", a, "app:v2 1 b", "app:v1 2 b")
}

func adopts(t *testing.T, server *postgrestest.Server) {
	s := newSite(t, server)
	s.notes["misses"] = `[{"repository":"app","reference":"v1","count":7,"first":"2025-12-31T00:00:00Z","last":"2025-12-31T00:00:00Z","user":"a","address":"192.0.2.1"}]`
	a := s.daemon(s.address)
	a.save(t.Context())
	b := s.daemon(s.address)
	b.save(t.Context())
	s.is("after the list of one daemon", b, "app:v1 7 a")
}
