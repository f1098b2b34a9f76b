//go:build postgres

package postgres

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// A look tells what the database has, what this program has, and who has it open, and changes nothing.
func TestLook(t *testing.T) {
	f := newSeveral(t)
	look := func(o Options) State {
		t.Helper()
		at, err := Look(f.ctx, o)
		f.must(err)
		return at
	}
	known, err := f.options.known()
	f.must(err)
	if at := look(f.options); at.Have != known || at.Known != known || !slices.Equal(at.Daemons, []string{processHere()}) {
		t.Errorf("its own program sees %+v, and knows %+v", at, known)
	}
	newer := f.options
	newer.Own, newer.Watched = own(1), nil
	if at := look(newer); at.Have != known || at.Known.Own != 1 || at.Known.Version != 2 || at.Known.Made == known.Made {
		t.Errorf("a newer program sees %+v", at)
	}
	beside, err := Beside(f.options.Address, map[string]string{"application_name": onHost + "b.example.com (process 7)"})
	f.must(err)
	defer beside.Close()
	conn, err := beside.Conn(f.ctx)
	f.must(err)
	defer conn.Close()
	_, err = conn.ExecContext(f.ctx, fmt.Sprintf(`SELECT pg_advisory_lock_shared(%d, %s)`, lockKey, schemaKey))
	f.must(err)
	if at := look(f.options); len(at.Daemons) != 2 || !slices.Contains(at.Daemons, "b.example.com (process 7)") {
		t.Errorf("two daemons have it, and a look tells of %q", at.Daemons)
	}
	f.must(conn.Close())
	f.must(beside.Close())
	f.must(f.Close())
	f.DB = nil
	if at := look(newer); len(at.Daemons) != 0 || at.Have != known {
		t.Errorf("none has it, and a look sees %+v", at)
	}
	f.beside(`ALTER TABLE appliance_schema DROP COLUMN own, DROP COLUMN made`) // as of an early version
	if at := look(f.options); at.Have != (Schema{Version: 2}) {
		t.Errorf("of an early version it sees %+v", at.Have)
	}
	_, address, err := testServer.Database(f.ctx, "")
	f.must(err)
	if _, err := Look(f.ctx, Options{Address: address, Migrations: versions(2)}); !errors.As(err, new(*database.NotDatabaseError)) {
		t.Errorf("an empty database: %v", err)
	}
}
