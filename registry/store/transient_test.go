package store

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// failing lets the next n opens of blobs fail.
func (f *fixture) failing(n int, code syscall.Errno) {
	f.files.OpenFile = func(path string) (*os.File, error) {
		if n > 0 {
			n--
			return nil, &fs.PathError{Op: "open", Path: path, Err: code}
		}
		return os.Open(path)
	}
}

// An error that may pass says nothing of the content: the blob stays in service.
func TestStore_OpenBlob_triesAgainWhatMayPass(t *testing.T) {
	for _, code := range []syscall.Errno{syscall.EIO, syscall.EMFILE, syscall.ENOMEM, syscall.EINTR} {
		f := newFileFixture(t)
		f.pushImage("app", "other")
		m := f.pushImage("app", "app", "v1")
		f.failing(1, code)
		b, err := f.Blobs.Open(f.ctx, "app", layerOf(m))
		if err != nil {
			t.Fatalf("one %v: %v", code, err)
		}
		f.must(b.Close())
		f.failing(100, code)
		if _, err = f.Blobs.Open(f.ctx, "app", layerOf(m)); !errors.Is(err, code) || errors.Is(err, ErrNotFound) {
			t.Errorf("while it lasts: %v", err)
		}
		f.failing(1, code)
		if damage, err := f.Integrity().ScrubBlob(f.ctx, layerOf(m), throttle.New(0)); damage != "" || err != nil && code == syscall.EIO {
			t.Errorf("scrub finds %q, %v", damage, err)
		}
		f.failing(0, 0)
		f.mustHave("app", "v1")
		f.mustBeClean()
	}
}

// What a medium that failed has brought into quarantine is put back when it can be read.
func TestStore_Reinspect(t *testing.T) {
	f := newFileFixture(t)
	f.pushImage("app", "other")
	m := f.pushImage("app", "app", "v1")
	f.failing(3, syscall.EIO)
	damage, err := f.Integrity().ScrubBlob(f.ctx, layerOf(m), throttle.New(0))
	f.must(err)
	if damage == "" {
		t.Fatal("a file that cannot be read is whole")
	}
	f.failing(0, 0)
	whole, err := f.Integrity().Reinspect(f.ctx, layerOf(m), int64(len("layer of app")), throttle.New(0))
	if err != nil || !whole {
		t.Errorf("it is whole: %v, %v", whole, err)
	}
	f.mustHave("app", "v1")
	f.must(f.Integrity().TidyQuarantine(f.ctx))
	f.mustBeClean()
}

// A database that cannot be written, as on a file system that has become read-only, is told as that. It can be read.
func TestStore_aDatabaseThatCannotBeWritten_SQLite(t *testing.T) {
	f := newFixture(t)
	f.must(f.SetNote(f.ctx, "n", "1"))
	wal, err := os.Open(f.database + "-wal")
	f.must(err)
	defer wal.Close()
	f.replaceBy(f.database+"-wal", wal)
	err = f.SetNote(f.ctx, "n", "2")
	if err == nil || !strings.Contains(err.Error(), "database "+f.database+" cannot be written: ") || !strings.Contains(hint.Of(err), "findmnt -T "+f.database) {
		t.Errorf("the write ends with %v, %q", err, hint.Of(err))
	}
	if got, err := f.Note(f.ctx, "n"); err != nil || got != "1" {
		t.Errorf("the note is %q, %v", got, err)
	}
	if err := f.Damage(); err != nil {
		t.Errorf("the database is said to be damaged: %v", err)
	}
	f.reopen()
	f.must(f.SetNote(f.ctx, "n", "3"))
	f.mustBeClean()
}

// A failed sync of the WAL does not damage the database. The write is refused, and
// the next one succeeds.
func TestStore_aFailedSyncIsNoDamage_SQLite(t *testing.T) {
	f := newFixture(t)
	f.blob("app", "first")
	f.replace(f.database+"-wal", "/dev/null") // which takes what is written, and syncs nothing
	err := f.SetNote(f.ctx, "n", "1")
	var disk *database.DiskError
	if !errors.As(err, &disk) || strings.Contains(disk.Hint(), "move") || strings.Contains(disk.Hint(), "appliance restore") {
		t.Errorf("the write ends with %v", err)
	}
	if err := f.Damage(); err != nil {
		t.Errorf("the database is said to be damaged: %v", err)
	}
	f.must(f.SetNote(f.ctx, "n", "2"))
	f.reopen()
	if got, err := f.Note(f.ctx, "n"); err != nil || got != "2" {
		t.Errorf("the note is %q, %v", got, err)
	}
	if f.read("app", digest.FromString("first")) != "first" {
		t.Error("what was acknowledged before is lost")
	}
	f.mustBeClean()
}
