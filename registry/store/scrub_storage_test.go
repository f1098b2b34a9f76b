package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// What is below a file system that is not mounted may look like a storage, too: a registry that was
// once started without it has made the directories, and was pushed to.
func TestStore_ScrubBlob_ofAStorageThatIsAnother(t *testing.T) {
	f := newFixture(t)
	var ds []digest.Digest
	for i := range 20 {
		ds = append(ds, f.blob("app", fmt.Sprint("blob ", i)).Digest)
	}
	dir := filepath.Join(f.storage(), "sha256")
	f.must(os.Rename(dir, dir+".elsewhere"))
	f.must(os.MkdirAll(filepath.Join(dir, "aa"), 0o750))
	pay := func(context.Context, int) error { return nil }
	for _, d := range ds {
		if damage, err := f.Integrity().ScrubBlob(f.ctx, d, pay); !errors.As(err, new(*StorageError)) {
			t.Fatalf("scrub says %q, %v", damage, err)
		}
	}
	f.must(os.RemoveAll(dir))
	f.must(os.Rename(dir+".elsewhere", dir))
	if n := f.verify(); n != len(ds) {
		t.Errorf("%d blobs are left of %d", n, len(ds))
	}
}

// Where another disk is mounted, no file there has a row here.
func TestStore_GarbageBlobs_ofAStorageThatIsAnother(t *testing.T) {
	f := newFixture(t)
	f.blob("app", "blob 0")
	f.blob("app", "blob 1")
	f.clock.add(48 * time.Hour)
	dir := filepath.Join(f.storage(), "sha256")
	f.must(os.Rename(dir, dir+".elsewhere"))
	theirs := f.path(digest.FromString("theirs"))
	f.must(os.MkdirAll(filepath.Dir(theirs), 0o750))
	f.must(os.WriteFile(theirs, []byte("theirs"), 0o600))
	f.must(os.Chtimes(theirs, time.Time{}, f.clock.now().Add(-24*time.Hour)))
	var planned []digest.Digest
	err := f.Garbage.GarbageBlobs(f.ctx, f.clock.now(), func(d digest.Digest, _ int64) error { planned = append(planned, d); return nil })
	if !errors.As(err, new(*StorageError)) || slices.Contains(planned, digest.FromString("theirs")) {
		t.Errorf("a plan says %v, %v", planned, err)
	}
	f.must(os.RemoveAll(dir))
	f.must(os.Rename(dir+".elsewhere", dir))
	if garbage := f.garbage(f.clock.now()); len(garbage) != 2 {
		t.Errorf("of ours there is %v", garbage)
	}
}

// The file of a small blob is written during the transaction that commits its row.
func TestStore_GarbageBlobs_whileFilesAreBehindTheirRows(t *testing.T) {
	f := newFileFixture(t)
	f.blob("app", "blob 0")
	f.clock.add(48 * time.Hour)
	left := f.path(digest.FromString("left by a crash"))
	f.must(os.MkdirAll(filepath.Dir(left), 0o750))
	f.must(os.WriteFile(left, []byte("left by a crash"), 0o600))
	f.must(os.Chtimes(left, time.Time{}, f.clock.now().Add(-24*time.Hour)))
	plan := func() error {
		return f.Garbage.GarbageBlobs(f.ctx, f.clock.now(), func(digest.Digest, int64) error { return nil })
	}
	var ends []func()
	for i := range 4 {
		d := digest.FromString(fmt.Sprint("behind ", i))
		put, err := f.guard.Blobs.Put(f.ctx, d)
		f.must(err)
		ends = append(ends, put.End)
		f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(f.ctx, `INSERT INTO blobs (digest, size, created) VALUES (?, 1, 1)`, d)
			return err
		}))
	}
	f.must(plan())
	for _, end := range ends {
		end()
	}
	if err := plan(); !errors.As(err, new(*StorageError)) {
		t.Errorf("after the puts a plan says %v", err)
	}
}

// A file system that was unmounted while the store is open.
func TestStore_StaleUploads_ofAStorageThatIsGone(t *testing.T) {
	f := newFileFixture(t)
	f.must(os.Remove(filepath.Join(f.storage(), "uploads")))
	err := f.Garbage.StaleUploads(f.ctx, f.clock.now(), func(string, int64) error { return nil })
	if !errors.As(err, new(*StorageError)) {
		t.Errorf("error is %v", err)
	}
}
