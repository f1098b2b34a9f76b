package sqlite

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
)

func (f *fixture) snapshots() []string {
	f.t.Helper()
	found, err := filepath.Glob(globLiteral(f.path) + SnapshotInfix + "*")
	f.must(err)
	return found
}

func TestDB_Snapshot(t *testing.T) {
	f := newFixture(t)
	f.note("a", 1)
	path, err := f.Snapshot(f.ctx)
	f.must(err)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 || info.Size() == 0 {
		t.Errorf("it is %v, %v", info, err)
	}
	f.note("b", 1)
	db, err := OpenSnapshot(path)
	f.must(err)
	var n int
	if err := db.QueryRow(`SELECT count(*) FROM notes`).Scan(&n); err != nil || n != 1 {
		t.Errorf("it has %d notes, %v", n, err)
	}
	f.must(db.Close())
	another, err := f.Snapshot(f.ctx)
	f.must(err)
	f.must(f.RemoveSnapshot(filepath.Base(path)))
	if found := f.snapshots(); len(found) != 1 || found[0] != another {
		t.Errorf("after the removal of one there is %v", found)
	}
}

func TestOpen_removesTheSnapshotOfAKilledProcess(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "[a-z]*") // which no pattern is to be made of
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	f := newFixtureIn(t, dir)
	path, err := f.Snapshot(f.ctx)
	f.must(err)
	f.must(os.WriteFile(path+"-journal", nil, 0o600))
	f.reopen()
	if left := f.snapshots(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestDB_Snapshot_failureLeavesNothing(t *testing.T) {
	f := newFixture(t)
	f.note("a", 1)
	f.space.Bytes = func(string) (int64, int64, error) { return diskspace.Least + 4096, 1 << 40, nil }
	if path, err := f.Snapshot(f.ctx); !errors.As(err, new(*diskspace.FullError)) {
		t.Errorf("on a disk without the space: %s, %v", path, err)
	}
	f.space.Bytes = diskspace.Bytes
	ended, cancel := context.WithCancel(f.ctx)
	cancel()
	if path, err := f.Snapshot(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("when its context has ended: %s, %v", path, err)
	}
	if left := f.snapshots(); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// Another program fills the disk while a snapshot is made: nothing of it is left.
func TestDB_Snapshot_onADiskThatFillsUp(t *testing.T) {
	dir, fill := diskspacetest.Small(t)
	f := newFixtureIn(t, dir)
	for i := range 60 { // more than SQLite keeps in memory
		f.note(fmt.Sprint(i), strings.Repeat("note ", 20_000))
	}
	fill()
	filler := filepath.Join(dir, "filler")
	info, err := os.Stat(filler)
	f.must(err)
	f.must(os.Truncate(filler, info.Size()-512<<10)) // it gets so far
	f.space.Bytes = func(string) (free, total int64, err error) { return 1 << 40, 1 << 40, nil }
	if path, err := f.Snapshot(f.ctx); !errors.As(err, new(*diskspace.FullError)) {
		t.Fatalf("got %s, %v", path, err)
	}
	if left := f.snapshots(); len(left) > 0 {
		t.Errorf("left behind are %v", left)
	}
}
