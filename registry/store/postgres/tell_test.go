//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/postgres/postgrestest"
)

// teller is a daemon that hears of another by way of a proxy.
type teller struct {
	*fixture
	proxy *postgrestest.Proxy
	heard chan []string
}

// newTeller returns once the daemon hears.
func newTeller(t *testing.T, muted bool) *teller {
	t.Helper()
	f := newFixture(t)
	f.must(f.Close())
	f.DB = nil
	f.options.Several = true
	f.options.Topic = func(c database.Change) string { return c.Table }
	f.options.Told = func([]string) {}
	f.reopen()
	proxy, err := testServer.Proxy()
	f.must(err)
	heard := &teller{fixture: f, proxy: proxy, heard: make(chan []string, 1000)}
	proxy.Mute.Store(muted)
	o := f.options
	o.Address, o.look = proxy.Address(o.Address), 50*time.Millisecond
	o.Told = func(topics []string) { heard.heard <- topics }
	db, err := Open(f.ctx, o)
	f.must(err)
	t.Cleanup(func() { f.must(errors.Join(db.Close(), proxy.Close())) })
	if topics := <-heard.heard; topics != nil {
		t.Errorf("told %q when it begins to listen", topics)
	}
	return heard
}

func (h *teller) write(name string) {
	h.t.Helper()
	h.must(h.Share(h.ctx, insertNote(name, 1)))
}

func TestTell(t *testing.T) {
	t.Run("the topics of a write come", func(t *testing.T) {
		h := newTeller(t, false)
		h.write("a")
		if topics := <-h.heard; !slices.Equal(topics, []string{"notes"}) {
			t.Errorf("told %q", topics)
		}
	})
	t.Run("what was not told is found", func(t *testing.T) {
		h := newTeller(t, true)
		h.write("a")
		if topics := <-h.heard; topics != nil {
			t.Errorf("told %v, by notifications that are lost", topics)
		}
		h.write("b")
		<-h.heard
	})
	t.Run("what was missed without a connection is found", func(t *testing.T) {
		h := newTeller(t, true)
		h.write("a")
		<-h.heard
		h.proxy.Cut()
		h.write("b")
		if topics := <-h.heard; topics != nil {
			t.Errorf("told %q, by notifications that are lost", topics)
		}
	})
}

// A write that others are told of has no round trip more, and one that changes nothing tells nothing.
func TestTell_roundTrips(t *testing.T) {
	h := newTeller(t, false)
	proxy, err := testServer.Proxy()
	h.must(err)
	defer func() { h.must(proxy.Close()) }()
	trips := func(topic func(database.Change) string) int64 {
		o := h.options
		o.Address, o.Topic, o.Told = proxy.Address(o.Address), topic, nil
		db, err := Open(h.ctx, o)
		h.must(err)
		defer func() { h.must(db.Close()) }()
		again := func(ctx context.Context, tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO notes (name, value) SELECT 'n' || count(*), 1 FROM notes`)
			return err
		}
		h.must(db.Share(h.ctx, again))
		before := proxy.Answers.Load()
		h.must(db.Share(h.ctx, again))
		return proxy.Answers.Load() - before
	}
	without, with := trips(nil), trips(h.options.Topic)
	if with != without {
		t.Errorf("%d round trips of a write that is told, %d of one that is not", with, without)
	}
	t.Logf("%d round trips of a write", with)
}
