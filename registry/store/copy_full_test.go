package store

import (
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A disk that has no room for the backup before a migration: what is reserved for deleting does not make that room, and
// is not given up for it, with another copy of the database tried for each piece.
func TestOpen_withoutSpaceForTheBackupBeforeAMigration(t *testing.T) {
	dir, fill := smallDisk(t)
	path := filepath.Join(dir, "appliance.db")
	db, err := sql.Open("sqlite", dsn(path))
	if err != nil {
		t.Fatal(err)
	}
	text, err := migrations.ReadFile("migrations/0001_initial.sql")
	if err != nil {
		t.Fatal(err)
	}
	if err := applyMigration(t.Context(), db, 1, string(text)); err != nil {
		t.Fatal(err)
	}
	if _, err := db.Exec(`INSERT INTO secrets (name, value) VALUES ('large', zeroblob(4194304))`); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r := &reserve{path: path + ".reserve", space: space{statfs: statfs}}
	if err := r.fill(); err != nil {
		t.Fatal(err)
	}
	before, err := os.Stat(r.path)
	if err != nil || before.Size() == 0 {
		t.Fatal(before, err)
	}
	fill()
	_, err = Open(t.Context(), Options{Database: path, Storage: filepath.Join(dir, "storage")})
	var full *FullError
	if !errors.As(err, &full) || full.Short < 2<<20 || full.Path != path {
		t.Errorf("got %v", err)
	}
	if after, err := os.Stat(r.path); err != nil || after.Size() < before.Size()/2 { // opening it takes some
		t.Errorf("of the reserve of %d bytes there is left %v, %v", before.Size(), after.Size(), err)
	}
	if left, err := filepath.Glob(path + ".schema-*"); err != nil || len(left) > 0 {
		t.Errorf("left behind are %v, %v", left, err)
	}
}

// Somebody else fills the disk while a snapshot is made: nothing of it is left.
func TestStore_Snapshot_onADiskThatFillsUp(t *testing.T) {
	dir, fill := smallDisk(t)
	f := newFixtureIn(t, dir)
	for i := range 60 { // more than SQLite keeps in memory
		f.must(f.SetNote(f.ctx, fmt.Sprint(i), strings.Repeat("note ", 20_000)))
	}
	fill()
	filler := filepath.Join(dir, "filler")
	info, err := os.Stat(filler)
	f.must(err)
	f.must(os.Truncate(filler, info.Size()-512<<10)) // it gets so far
	f.space.statfs = func(string) (free, total int64, err error) { return 1 << 40, 1 << 40, nil }
	if s, err := f.Snapshot(f.ctx); !errors.As(err, new(*FullError)) {
		t.Fatalf("got %v, %v", s, err)
	}
	if left, err := filepath.Glob(f.database + snapshotInfix + "*"); err != nil || len(left) > 0 {
		t.Errorf("left behind are %v, %v", left, err)
	}
}
