//go:build postgres

package postgres

import (
	"errors"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// A process that only reads has the database again after a restart of the server, before another takes it.
func TestDB_keepsTheDatabase(t *testing.T) {
	f := newFixture(t)
	f.options.keep = 10 * time.Millisecond
	f.reopen()
	f.kill()
	held := `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`
	for n := 0; n == 0; {
		if err := f.reader.QueryRowContext(f.ctx, held).Scan(&n); err != nil {
			time.Sleep(10 * time.Millisecond)
		}
	}
	if other, err := Open(f.ctx, f.options); !errors.As(err, new(*database.LockedError)) {
		t.Errorf("a second process: %v, %v", other, err)
	}
	f.must(f.Check(f.ctx))
}

// One whose database another has is not well.
func TestDB_tellsThatAnotherHasIt(t *testing.T) {
	f := newFixture(t)
	f.options.keep = 10 * time.Millisecond
	f.reopen()
	f.beside(`UPDATE appliance_schema SET owner = 'another'`)
	f.must(f.Check(f.ctx))
	f.kill()
	for err := f.Check(f.ctx); !errors.As(err, new(*database.LockedError)); err = f.Check(f.ctx) {
		time.Sleep(10 * time.Millisecond)
	}
}
