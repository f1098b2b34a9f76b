package store

import (
	"errors"
	"os"
	"testing"
)

// TestStore_FullDisk_copying_SQLite: where a file system writes what changes to another place (btrfs), a
// full disk has no space to change the index of the WAL, which is mapped into memory, and the
// kernel sends SIGBUS. It does so, too, where the file is shorter than what is mapped.
func TestStore_FullDisk_copying_SQLite(t *testing.T) {
	f := newFixture(t)
	shm := f.database + "-shm"
	info, err := os.Stat(shm)
	f.must(err)
	f.must(os.Truncate(shm, 0))
	err = f.Users.Put(f.ctx, User{Name: "init"})
	report, verified := f.Integrity().Verify(f.ctx, VerifyOptions{})
	f.must(os.Truncate(shm, info.Size()))
	var full *FullError
	if !errors.As(err, &full) || full.Path != f.database {
		t.Errorf("the error is %v", err)
	}
	if verified == nil || len(report.Problems) != 0 {
		t.Errorf("verify finds %v, %v", report.Problems, verified)
	}
	if err := f.Damage(); err != nil {
		t.Errorf("the damage is %v", err)
	}
	f.must(f.Users.Put(f.ctx, User{Name: "init"}))
}
