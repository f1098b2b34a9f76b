package sqlite

import (
	"bytes"
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

func TestOpen_fileThatIsNotADatabase(t *testing.T) {
	foreign := filepath.Join(t.TempDir(), "foreign.db")
	db, err := sql.Open("sqlite", foreign)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`CREATE TABLE accounts (id INTEGER)`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	foreignBytes, err := os.ReadFile(foreign)
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{
		"text":                []byte("listen: :8443\n"),
		"other program's":     foreignBytes,
		"damaged":             append([]byte("SQLite format 3\x00"), append(make([]byte, 52), append([]byte("test"), bytes.Repeat([]byte{0xff}, 8000)...)...)...),
		"nothing but a start": []byte("SQLite"),
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "appliance.db")
			if err := os.WriteFile(path, content, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := Open(t.Context(), Options{Path: path, Schema: versions(2)})
			var not *database.NotDatabaseError
			if !errors.As(err, &not) || !strings.Contains(err.Error(), path) {
				t.Fatalf("got %v, want a NotDatabaseError that names %s", err, path)
			}
			after, err := os.ReadFile(path)
			if err != nil || !bytes.Equal(after, content) {
				t.Errorf("the file was written to (%v)", err)
			}
		})
	}
}

func TestOpen_refusesAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "appliance.db")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(t.Context(), Options{Path: path, Schema: versions(2)})
	var not *database.NotDatabaseError
	if !errors.As(err, &not) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want a NotDatabaseError that names %s", err, path)
	}
}

func TestOpen_everyConnectionHasThePragmas(t *testing.T) {
	f := newFixture(t)
	for name, db := range map[string]*sql.DB{"writer": f.writer, "reader": f.reader} {
		var conns []*sql.Conn // kept, so that the pool opens another for the next
		for range readers {
			conn, err := db.Conn(f.ctx)
			f.must(err)
			conns = append(conns, conn)
			var journal string
			var synchronous, foreignKeys int
			f.must(conn.QueryRowContext(f.ctx, `SELECT * FROM pragma_journal_mode, pragma_synchronous, pragma_foreign_keys`).
				Scan(&journal, &synchronous, &foreignKeys))
			if journal != "wal" || synchronous != 2 || foreignKeys != 1 {
				t.Errorf("%s: journal_mode %s, synchronous %d, foreign_keys %d", name, journal, synchronous, foreignKeys)
			}
			if name == "writer" {
				break
			}
		}
		for _, conn := range conns {
			f.must(conn.Close())
		}
	}
	if _, err := f.reader.Exec(`DELETE FROM notes`); err == nil {
		t.Error("a reader connection could write")
	}
}

func TestLock_excludesASecondProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "appliance.db")
	first, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	var locked *database.LockedError
	if _, err := Lock(path); !errors.As(err, &locked) || locked.Path != path+".lock" || locked.Hint() == "" {
		t.Errorf("a second: %v", err)
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	again, err := Lock(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLock_withoutADirectory(t *testing.T) {
	_, err := Lock(filepath.Join(t.TempDir(), "absent", "db"))
	if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(hint.Of(err), "install -d -o USER ") {
		t.Errorf("error %v, hint %q", err, hint.Of(err))
	}
}
