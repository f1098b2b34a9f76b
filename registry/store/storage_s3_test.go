//go:build s3

package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Another bucket, or another prefix of it, must not look like a registry that has lost all blobs.
func TestOpen_ofAnotherPrefix(t *testing.T) {
	f := newFixture(t)
	if f.bucket == nil {
		t.Fatal("APPLIANCE_TEST_STORAGE is not s3: run `make s3`")
	}
	f.pushImage("app", "app", "v1")
	f.must(f.Close())
	f.Store = nil
	o := f.options()
	o.Storage, _ = f.bucket.Address(t, "another")
	if s, err := Open(f.ctx, o); err == nil || !strings.Contains(err.Error(), "the blobs of the database are missing: there are none in s3://images/another") || hint.Of(err) == "" {
		t.Errorf("Open gives %v, %v, hint %q", s, err, hint.Of(err))
	}
	f.reopen()
	f.mustHave("app", "v1")
	f.mustBeClean()
}

// The collection of a store would remove the blobs of another one with the same bucket and prefix.
func TestOpen_ofTheStorageOfAnother(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	other := f.options()
	other.Database = filepath.Join(t.TempDir(), "appliance.db") // which is new, and so sees blobs without rows
	if s, err := Open(f.ctx, other); err == nil || !strings.Contains(err.Error(), "has blobs: without their rows") {
		t.Errorf("a new database on a storage with blobs gives %v, %v", s, err)
	}
	old := newFileFixture(t)
	old.pushImage("app", "app", "v1")
	other.Database = old.database
	old.must(old.Close())
	old.Store = nil
	s, err := Open(f.ctx, other)
	if err == nil || !strings.Contains(err.Error(), "has the blobs of another store: that of the database "+f.database) || !strings.Contains(hint.Of(err), "remove the object owner from the bucket images") {
		t.Errorf("another database on it gives %v, %v, hint %q", s, err, hint.Of(err))
	}
	f.must(os.Remove(filepath.Join(f.bucket.Dir, "owner")))
	s, err = Open(f.ctx, other)
	f.must(err)
	f.must(s.Close())
	f.must(f.Close())
	f.Store = nil
	if s, err := Open(f.ctx, f.options()); err == nil || !strings.Contains(err.Error(), "has the blobs of another store") {
		t.Errorf("the first database gives %v, %v", s, err)
	}
}
