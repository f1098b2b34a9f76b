package registry_test

import (
	"database/sql"
	"errors"
	"testing"

	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/store"
)

// A command that finds the store of an older version leaves it to the older program, and says
// that serve migrates it.
func TestOffline_doesNotMigrate(t *testing.T) {
	r := start(t)
	r.end(t)
	db, err := sql.Open("sqlite", r.cfg.Database)
	must(t, err)
	defer db.Close()
	version := func() (n int) {
		t.Helper()
		must(t, db.QueryRow(`PRAGMA user_version`).Scan(&n))
		return n
	}
	current := version()
	_, err = db.Exec(`PRAGMA user_version = 4`)
	must(t, err)
	stop, err := registry.Offline(t.Context(), r.cfg, registry.Options{})
	var older *store.SchemaError
	if !errors.As(err, &older) || older.Have != 4 || older.Known != current {
		t.Errorf("got %v", err)
	}
	if err == nil {
		must(t, stop())
	}
	if got := version(); got != 4 {
		t.Errorf("the schema has version %d now", got)
	}
}
