package sqlite

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// A database is read while a DB has it, also when all that it has is in the WAL so far, and is not changed.
func TestOpenBeside(t *testing.T) {
	f := newFixture(t)
	f.note("a", 1)
	if ours, err := IsApplication(f.path, versions(2).Application); err != nil || ours {
		t.Fatalf("the file itself has what is to be in the WAL alone: %v", err)
	}
	for range 2 { // from the WAL, then from the file
		db, err := OpenBeside(f.ctx, f.path, versions(2))
		f.must(err)
		var value int
		if err := db.QueryRowContext(f.ctx, `SELECT value FROM notes WHERE name = 'a'`).Scan(&value); err != nil || value != 1 {
			t.Errorf("it reads %d, %v", value, err)
		}
		if _, err := db.ExecContext(f.ctx, `DELETE FROM notes`); err == nil {
			t.Error("it writes")
		}
		f.must(db.Close())
		if _, err := OpenBeside(f.ctx, f.path, versions(1)); !errors.As(err, new(*database.SchemaError)) {
			t.Errorf("with another schema: %v", err)
		}
		f.reopen()
	}
}

func TestOpenBeside_refuses(t *testing.T) {
	f := newFixture(t)
	f.must(f.Close())
	f.DB = nil
	whole, err := os.ReadFile(f.options.Path)
	if err != nil {
		t.Fatal(err)
	}
	header := func(id, schema uint32) []byte {
		changed := append([]byte(nil), whole...)
		binary.BigEndian.PutUint32(changed[headerID:], id)
		binary.BigEndian.PutUint32(changed[headerSchema:], schema)
		return changed
	}
	for name, content := range map[string][]byte{
		"an empty file":                 {},
		"a text":                        []byte("storage: /srv"),
		"the beginning of one":          whole[:50],
		"another program's":             header(7, 1),
		"an SQLite file without tables": header(0, 0),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "appliance.db")
			f.must(os.WriteFile(path, content, 0o600))
			if _, err := OpenBeside(t.Context(), path, versions(2)); !errors.As(err, new(*database.NotDatabaseError)) {
				t.Errorf("got %v", err)
			}
			if now, err := os.ReadFile(path); err != nil || string(now) != string(content) {
				t.Errorf("it has changed the file, %v", err)
			}
		})
	}
	t.Run("a FIFO", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "appliance.db")
		f.must(unix.Mkfifo(path, 0o600))
		if _, err := OpenBeside(t.Context(), path, versions(2)); !errors.As(err, new(*database.NotDatabaseError)) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("nothing", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "appliance.db")
		if _, err := OpenBeside(t.Context(), path, versions(2)); err == nil {
			t.Error("it is opened")
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("it is made, %v", err)
		}
	})
}
