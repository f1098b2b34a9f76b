package backup

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

// A database is restored as a whole, and not what SQLite has folded of it by itself when it was
// closed: it does that for the last one who closes it, and says nothing when it fails.
func TestRestore_foldsTheWAL(t *testing.T) {
	f := newFixture(t)
	bad := f.pushImage("app", "bad", "bad")
	f.must(os.Remove(f.path(layerOf(bad))))
	to := t.TempDir()
	if _, err := f.create(f.ctx, to, Options{}); !errors.As(err, new(*DamagedError)) {
		t.Fatal(err)
	}

	g := emptyFixture(t)
	var other *sql.DB
	_, err := Restore(g.ctx, to, RestoreOptions{Database: g.database(), Storage: g.storage(), Partial: true, Progress: func(RestoreReport, integrity.StoreSize) {
		if other != nil {
			return
		}
		var err error
		other, err = sql.Open("sqlite", "file:"+filepath.Join(g.dir, "appliance.db.restore", databaseName)+"?_pragma=busy_timeout(10000)")
		g.must(err)
		g.must(other.Ping())
	}})
	g.must(err)
	g.must(other.Close())
	g.reopen()
	defer func() { g.close() }()
	found, err := g.Integrity().Quarantined(g.ctx)
	g.must(err)
	if len(found) != 1 || found[0].Digest != layerOf(bad) {
		t.Errorf("in quarantine are %v", found)
	}
}
