package sqlite

import (
	"database/sql"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// oldDatabase makes a database of the first version with a note in it, and returns a
// fixture that is not open.
func oldDatabase(t *testing.T, dir string, value any) *fixture {
	t.Helper()
	f := &fixture{t: t, ctx: t.Context(), options: Options{Path: filepath.Join(dir, "appliance.db"), Schema: versions(1)}}
	f.reopen()
	f.note("old", value)
	f.must(f.Close())
	f.options.Schema = versions(2)
	return f
}

func TestOpen_migratesAfterACopy(t *testing.T) {
	f := oldDatabase(t, t.TempDir(), 1)
	for _, name := range []string{".schema-0.backup", ".schema-1.backup.tmp"} { // of an upgrade long ago, and one that was killed
		f.must(os.WriteFile(f.path+name, []byte("old"), 0o600))
	}
	f.DB = nil
	f.reopen()
	if found, err := database.Exists(f.ctx, f.reader, `SELECT 1 FROM notes LEFT JOIN parts ON note = name`); err != nil || !found {
		t.Errorf("after the migration: %t, %v", found, err)
	}
	f.must(f.Close())

	copies, err := filepath.Glob(f.path + ".schema-*")
	if err != nil || len(copies) != 1 || copies[0] != migrationCopy(f.path, 1) {
		t.Fatalf("copies: %v, %v", copies, err)
	}
	if info, err := os.Stat(copies[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	db, err := sql.Open("sqlite", copies[0])
	f.must(err)
	defer db.Close()
	var notes, version int
	if err := db.QueryRow(`SELECT count(*), user_version FROM notes, pragma_user_version`).Scan(&notes, &version); err != nil || notes != 1 || version != 1 {
		t.Errorf("the copy has %d notes and version %d, %v", notes, version, err)
	}
}

// A command that only reads leaves the database to the older program.
func TestOpen_currentRefusesToMigrate(t *testing.T) {
	f := oldDatabase(t, t.TempDir(), 1)
	before, err := os.ReadFile(f.path)
	f.must(err)
	f.options.Current = true
	_, err = Open(f.ctx, f.options)
	var older *database.SchemaError
	if !errors.As(err, &older) || older.Have != 1 || !strings.Contains(older.Hint(), "serve") {
		t.Errorf("got %v", err)
	}
	if after, err := os.ReadFile(f.path); err != nil || string(after) != string(before) {
		t.Errorf("the database was written to (%v)", err)
	}
	f.options.Path = filepath.Join(t.TempDir(), "new.db")
	f.DB = nil
	f.reopen()
	f.must(f.Close())
}

func TestOpen_newerDatabaseIsRefused(t *testing.T) {
	f := newFixture(t)
	f.must(f.Close())
	f.DB = nil
	f.options.Schema = versions(1)
	_, err := Open(f.ctx, f.options)
	var newer *database.SchemaError
	if !errors.As(err, &newer) || newer.Have != 2 || newer.Known != 1 || newer.Hint() == "" {
		t.Errorf("got %v, want a SchemaError", err)
	}
}

func TestOpen_withNothingToMigrateMakesNoCopy(t *testing.T) {
	f := newFixture(t)
	f.reopen()
	if copies, err := filepath.Glob(f.path + ".schema-*"); err != nil || len(copies) != 0 {
		t.Errorf("copies: %v, %v", copies, err)
	}
}

func TestOpen_withoutItsCopyDoesNotMigrate(t *testing.T) {
	f := oldDatabase(t, t.TempDir(), 1)
	before, err := os.ReadFile(f.path)
	f.must(err)
	// A directory is in the way, as a full disk would be.
	f.must(os.MkdirAll(filepath.Join(migrationCopy(f.path, 1), "x"), 0o700))
	_, err = Open(f.ctx, f.options)
	if !errors.Is(err, syscall.EEXIST) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EISDIR) || !strings.Contains(err.Error(), f.path) {
		t.Errorf("got %v", err)
	}
	if after, err := os.ReadFile(f.path); err != nil || string(after) != string(before) {
		t.Errorf("the database was written to (%v)", err)
	}
	if _, err := os.Stat(migrationCopy(f.path, 1) + ".tmp"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("half a copy is left: %v", err)
	}
}

// On a disk without space for the copy, the reserve is not given up, with another copy tried for
// each piece of it: it could not make that space.
func TestOpen_withoutSpaceForTheCopyBeforeAMigration(t *testing.T) {
	dir, fill := diskspacetest.Small(t)
	f := oldDatabase(t, dir, make([]byte, 4<<20))
	before := f.size(reserveSuffix)
	if before == 0 {
		t.Fatal("there is no reserve")
	}
	fill()
	_, err := Open(t.Context(), f.options)
	var full *diskspace.FullError
	if !errors.As(err, &full) || full.Short < 2<<20 || full.Path != f.path {
		t.Errorf("got %v", err)
	}
	if after := f.size(reserveSuffix); after < before/2 { // opening it takes some
		t.Errorf("of the reserve of %d bytes %d are left", before, after)
	}
	if left, err := filepath.Glob(f.path + ".schema-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind are %v, %v", left, err)
	}
}
