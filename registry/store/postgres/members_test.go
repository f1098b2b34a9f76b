//go:build postgres

package postgres

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// another opens the database of f once more.
func (f *fixture) another() *DB {
	f.t.Helper()
	db, err := Open(f.ctx, f.options)
	f.must(err)
	f.t.Cleanup(func() { f.must(db.Close()) })
	return db
}

func newSeveral(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.must(f.Close())
	f.DB = nil
	f.options.Several = true
	f.reopen()
	return f
}

// A daemon that was stopped for longer than its lease tells of that, and how long it was.
func TestSeveral_tellsOfAnEndedLease(t *testing.T) {
	f := newSeveral(t)
	f.must(f.Close())
	log := new(journal)
	f.options.Log = slog.New(slog.NewTextHandler(log, nil))
	f.DB = nil
	f.reopen()
	was := f.Member()
	f.server.member.Load().renewed.Add(-int64(90 * time.Second))
	f.beside(`DELETE FROM daemons`)
	for f.Member() == was {
		f.must(f.Renew(f.ctx))
	}
	if got := log.String(); !strings.Contains(got, "not renewed for 1m30s") || !strings.Contains(got, "stopped or too slow") || strings.Contains(got, "fail-over") {
		t.Errorf("the log has %q", got)
	}
	was = f.Member()
	f.beside(`DELETE FROM daemons`) // as a database does that has never seen this daemon
	for f.Member() == was {
		f.must(f.Renew(f.ctx))
	}
	if got := log.String(); !strings.Contains(got, "as after a fail-over") {
		t.Errorf("the log has %q", got)
	}
}

// journal is a log that goroutines share.
type journal struct {
	mu  sync.Mutex
	out strings.Builder
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.out.String()
}

// Writes of two daemons take turns, so that none sees the state before another's.
func TestSeveral_writesTakeTurns(t *testing.T) {
	f := newSeveral(t)
	other := f.another()
	f.must(f.Share(f.ctx, insertNote("sum", 0)))
	attempts := 0
	var counting sync.Mutex
	increase := func(ctx context.Context, tx *sql.Tx) error {
		counting.Lock()
		attempts++
		counting.Unlock()
		var n int64
		if err := tx.QueryRowContext(ctx, `SELECT value FROM notes WHERE name = 'sum'`).Scan(&n); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE notes SET value = ? WHERE name = 'sum'`, n+1)
		return err
	}
	var writers sync.WaitGroup
	for _, db := range []*DB{f.DB, other} {
		writers.Go(func() {
			for range 100 {
				if err := db.Share(f.ctx, increase); err != nil {
					t.Error(err)
				}
			}
		})
	}
	writers.Wait()
	var n int
	f.must(f.Reader().QueryRow(`SELECT value FROM notes`).Scan(&n))
	if n != 200 || attempts != 200 {
		t.Errorf("the sum is %d after %d attempts", n, attempts)
	}
}

func TestSeveral_refuses(t *testing.T) {
	var locked *database.LockedError
	refused := func(t *testing.T, o Options, what string) {
		t.Helper()
		if db, err := Open(t.Context(), o); !errors.As(err, &locked) || hint.Of(err) == "" {
			t.Errorf("%s: %v, %v", what, db, err)
		}
	}
	t.Run("one that needs the database alone", func(t *testing.T) {
		f := newSeveral(t)
		alone := f.options
		alone.Several = false
		refused(t, alone, "beside others")
		host, err := os.Hostname()
		f.must(err)
		if _, err := Open(t.Context(), alone); !strings.Contains(err.Error(), "is in use by the appliance on "+host) || !strings.Contains(hint.Of(err), "sharedKey") {
			t.Errorf("it is not told where the others are: %v, %s", err, hint.Of(err))
		}
		f.must(f.Close())
		f.options.Several = false
		f.DB = nil
		f.reopen()
		f.options.Several = true
		refused(t, f.options, "beside one that has it alone")
	})
	t.Run("another version", func(t *testing.T) {
		f := newSeveral(t)
		newer := f.options
		newer.Own = own(1)
		refused(t, newer, "beside an older one")
		f.beside(`UPDATE appliance_schema SET own = 1`)
		f.kill() // as while it has no connection
		err := f.Share(f.ctx, insertNote("a", 1))
		for errors.As(err, new(*database.UnavailableError)) {
			err = f.Share(f.ctx, insertNote("a", 1))
		}
		if !errors.As(err, &locked) || f.notes() != "" {
			t.Errorf("after another version had it: %v, written: %s", err, f.notes())
		}
	})
	t.Run("not one that opens a new database at the same time", func(t *testing.T) {
		f := newSeveral(t)
		f.must(f.Close())
		f.DB = nil
		f.beside(`DROP TABLE parts, notes, appliance_schema, daemons`)
		var opened sync.WaitGroup
		for range 3 {
			opened.Go(func() {
				db, err := Open(f.ctx, f.options)
				if err == nil {
					err = db.Close()
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		opened.Wait()
	})
}

func (f *fixture) daemons() []string {
	f.t.Helper()
	ids, err := database.Column[string](f.ctx, f.Reader(), `SELECT id FROM daemons`)
	f.must(err)
	return ids
}

// A daemon that others count as dead writes nothing as the one that it was.
func TestSeveral_leaseEnds(t *testing.T) {
	f := newSeveral(t)
	other := f.another()
	was := f.Member()
	if !f.Holds(was) || f.Holds(other.Member()) || len(f.daemons()) != 2 {
		t.Fatalf("at first: %q of %v", was, f.daemons())
	}
	f.beside(`UPDATE daemons SET seen = appliance_now() - 61000000000 WHERE id = '` + was + `'`)
	f.must(other.Renew(f.ctx))
	if ids := f.daemons(); len(ids) != 1 || ids[0] != other.Member() {
		t.Fatalf("after the lease: %v", ids)
	}
	var unavailable *database.UnavailableError
	err := f.Share(f.ctx, insertNote("a", 1))
	if err == nil && f.Member() == was { // the renewal may have been first
		t.Error("it wrote without its lease")
	}
	if err != nil && !errors.As(err, &unavailable) {
		t.Errorf("got %v", err)
	}
	for err != nil {
		err = f.Share(f.ctx, insertNote("b", 1))
	}
	if f.Member() == was || f.Holds(was) || !f.Holds(f.Member()) || len(f.daemons()) != 2 {
		t.Errorf("it is %q, as before, of %v", f.Member(), f.daemons())
	}
	f.must(other.Leave(f.ctx))
	if ids := f.daemons(); len(ids) != 1 || ids[0] != f.Member() {
		t.Errorf("after one has left: %v", ids)
	}
}

// The clock of the server is compared with that of this host, but for what a round trip takes.
func TestSeveral_clock(t *testing.T) {
	f := newSeveral(t)
	if ahead, err := f.Clock(f.ctx); err != nil || ahead.Abs() > time.Second {
		t.Errorf("equal clocks differ by %s, %v", ahead, err)
	}
	for _, by := range []time.Duration{time.Hour, -time.Hour} {
		f.beside(fmt.Sprintf(`CREATE OR REPLACE FUNCTION appliance_now() RETURNS bigint LANGUAGE sql VOLATILE AS
			'SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint * 1000 + %d'`, by))
		if ahead, err := f.Clock(f.ctx); err != nil || (ahead-by).Abs() > time.Minute {
			t.Errorf("by %s: %s, %v", by, ahead, err)
		}
	}
}
