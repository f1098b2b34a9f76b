package store

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// A database is restored as a whole, and not what SQLite has folded of it by itself when it was closed: it does that
// for the last one who closes it, and says nothing when it fails.
func TestRestore_foldsTheWAL(t *testing.T) {
	f := newFixture(t)
	bad := f.pushImage("app", "bad", "bad")
	f.must(os.Remove(f.path(layerOf(bad))))
	to := t.TempDir()
	if _, err := f.Backup(f.ctx, to, BackupOptions{}); !errors.As(err, new(*DamagedError)) {
		t.Fatal(err)
	}

	g := &fixture{t: t, ctx: f.ctx, clock: f.clock, dir: t.TempDir()}
	var other *sql.DB
	_, err := Restore(g.ctx, to, RestoreOptions{Options: g.options(), Partial: true, Progress: func(RestoreReport, StoreSize) {
		if other != nil {
			return
		}
		var err error
		other, err = sql.Open("sqlite", "file:"+filepath.Join(g.dir, "appliance.db.restore", backupDatabase)+"?_pragma=busy_timeout(10000)")
		g.must(err)
		g.must(other.Ping())
	}})
	g.must(err)
	g.must(other.Close())
	g.reopen()
	defer func() { g.must(g.Close()) }()
	var found []digest.Digest
	g.must(sqlite.Query(g.ctx, g.db.Reader(), func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		found = append(found, d)
		return err
	}, `SELECT digest FROM quarantine`))
	if len(found) != 1 || found[0] != layerOf(bad) {
		t.Errorf("in quarantine are %v", found)
	}
}
