package store

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// snapshots are the files that snapshots have beside the database.
func (f *fixture) snapshots() []string {
	f.t.Helper()
	found, err := filepath.Glob(f.database + sqlite.SnapshotInfix + "*")
	f.must(err)
	return found
}

func TestStore_Snapshot_SQLite(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	s, err := f.Snapshot(f.ctx)
	f.must(err)
	info, err := os.Stat(filepath.Join(f.dir, s.Name))
	f.must(err)
	if info.Mode() != 0o600 || info.Size() == 0 {
		t.Errorf("it has %d bytes and mode %v", info.Size(), info.Mode())
	}
	another, err := f.Snapshot(f.ctx)
	f.must(err)
	f.must(s.Release())
	if found := f.snapshots(); len(found) != 1 || filepath.Base(found[0]) != another.Name {
		t.Errorf("after the release of one there is %v", found)
	}
	if f.guard.Backups.Load() == 0 {
		t.Error("the other no longer keeps collections from removing files")
	}
	f.must(another.Release())
	if f.guard.Backups.Load() > 0 || len(f.snapshots()) > 0 {
		t.Errorf("left behind: %v, backups: %d", f.snapshots(), f.guard.Backups.Load())
	}
}

func TestStore_Snapshot_failureHoldsNoFiles_SQLite(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	if _, err := f.Snapshot(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if f.guard.Backups.Load() > 0 || len(f.snapshots()) > 0 {
		t.Errorf("left behind: %v, backups: %d", f.snapshots(), f.guard.Backups.Load())
	}
	// What pushes are to leave free is there for it.
	f.space.MinFree = 1 << 62
	s, err := f.Snapshot(f.ctx)
	f.must(err)
	f.must(s.Release())
}
