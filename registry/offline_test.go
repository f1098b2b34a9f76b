package registry_test

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/client"
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

// Two configurations may name one control socket: the daemon of one does not answer for the other.
func TestDaemon_ofAnotherDatabase(t *testing.T) {
	r := start(t)
	other := *r.cfg
	ask := func(database string) (asked bool, err error) {
		other.Database = database
		err = registry.Daemon(t.Context(), &other, os.Geteuid(), func(*client.Client) error { asked = true; return nil })
		return asked, err
	}
	if asked, err := ask(r.cfg.Database); err != nil || !asked {
		t.Errorf("its own database: %v", err)
	}
	name := filepath.Join(filepath.Dir(r.cfg.Database), "ä other\n.db")
	asked, err := ask(name)
	if err == nil || asked || !strings.Contains(err.Error(), `ä other\n.db: it was started with another configuration`) || !strings.Contains(hint.Of(err), "stop it first") {
		t.Errorf("another one: %v, hint %q", err, hint.Of(err))
	}
	other.Database = name
	err = registry.Control(t.Context(), &other, os.Geteuid(), nil, nil)
	if err == nil || !strings.Contains(err.Error(), "another configuration") {
		t.Errorf("a command that could open the store: %v", err)
	}
}
