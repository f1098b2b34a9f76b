package sqlite

import (
	"database/sql"
	"errors"
	"os"
	"testing"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
)

// The reserve is there again when there is space for it.
func TestDB_Freeing_reserveComesBack(t *testing.T) {
	f := newFixture(t)
	if got := f.size(reserveSuffix); got != reserveBytes {
		t.Errorf("at first: %d bytes", got)
	}
	calls := 0
	f.must(f.Freeing(func() error {
		if calls++; calls <= 2 {
			return &diskspace.FullError{Path: f.path}
		}
		return nil
	}))
	if calls != 3 || f.size(reserveSuffix) != reserveBytes-2*reserveStep {
		t.Errorf("%d calls, %d bytes are left", calls, f.size(reserveSuffix))
	}
	err := f.Freeing(func() error { return &diskspace.FullError{Path: f.path} })
	var full *diskspace.FullError
	if !errors.As(err, &full) || f.size(reserveSuffix) != 0 {
		t.Errorf("with none left: %d bytes, %v", f.size(reserveSuffix), err)
	}
	f.must(f.Maintain(f.ctx))
	if got := f.size(reserveSuffix); got != reserveBytes {
		t.Errorf("afterwards: %d bytes", got)
	}
}

func TestDB_Write_onAFullDisk(t *testing.T) {
	dir, fill := diskspacetest.Small(t)
	f := newFixtureIn(t, dir)
	f.note("old", make([]byte, 1<<20))
	f.reopen() // and the WAL is gone
	fill()
	var full *diskspace.FullError
	if err := f.Share(f.ctx, insertNote("new")); !errors.As(err, &full) || full.Path != f.path {
		t.Errorf("a write: %v", err)
	}
	f.must(f.WriteFreeing(f.ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(f.ctx, `DELETE FROM notes`)
		return err
	}))
	if got := f.notes(); got != "" {
		t.Errorf("left: %s", got)
	}
}

// Where a file system writes what changes to another place (btrfs), a full disk has no space to
// change the index of the WAL, which is mapped into memory, and the kernel sends SIGBUS. It does
// so, too, where the file is shorter than what is mapped.
func TestDB_fullDiskUnderTheIndexOfTheWAL(t *testing.T) {
	f := newFixture(t)
	shm := f.path + "-shm"
	size := f.size("-shm")
	f.must(os.Truncate(shm, 0))
	written := f.Share(f.ctx, insertNote("a"))
	read := f.Check(f.ctx)
	f.must(os.Truncate(shm, size))
	for name, err := range map[string]error{"a write": written, "a read": read} {
		var full *diskspace.FullError
		if !errors.As(err, &full) || full.Path != f.path {
			t.Errorf("%s gives %v", name, err)
		}
	}
	if err := f.Damage(); err != nil {
		t.Errorf("the damage is %v", err)
	}
	f.must(f.Share(f.ctx, insertNote("a")))
}
