//go:build s3

package store

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
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

// While the storage is asked for the layers of a manifest, other writes go on.
func TestPut_asksTheStorageBeforeTheTransaction(t *testing.T) {
	f := newFixture(t)
	var asked atomic.Int32
	f.bucket.Fault(func(r *http.Request) s3test.Action {
		if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/sha256/") {
			asked.Add(1)
			ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
			defer cancel()
			if err := f.SetNote(ctx, "written meanwhile", "1"); err != nil {
				t.Errorf("a write while the storage is asked for a layer: %v", err)
			}
		}
		return s3test.Pass
	})
	m := f.pushImage("app", "app", "v1")
	if asked.Load() == 0 {
		t.Error("the storage was not asked for a layer")
	}
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	asked.Store(0)
	f.must(r.PutManifest(f.ctx, "app", descriptor(m.MediaType, m.Body), m.Body))
	if asked.Load() == 0 {
		t.Error("the storage was not asked for a layer of a run")
	}
}

// A manifest must not refer to what the storage has lost.
func TestPut_ofALostLayer(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.must(os.Remove(f.path(layerOf(m))))
	var missing *MissingError
	if _, err := f.Manifests.Put(f.ctx, "app", m.Body, PutOptions{}); !errors.As(err, &missing) || len(missing.Digests) != 1 || missing.Digests[0] != layerOf(m) {
		t.Errorf("Put gives %v", err)
	}
}
