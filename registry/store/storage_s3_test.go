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

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/blobs3/s3test"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
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
	other.Database = old.options().Database
	old.must(old.Close())
	old.Store = nil
	s, err := Open(f.ctx, other)
	if err == nil || !strings.Contains(err.Error(), "has the blobs of another store: that of the database "+f.database) || !strings.Contains(hint.Of(err), "remove the object owner of the bucket images") {
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

// A daemon that starts waits for the storage, and a command does not.
func TestOpen_waitsForTheStorage(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	f.must(f.Close())
	f.Store = nil
	var refused atomic.Int64
	f.bucket.Fault(func(*http.Request) s3test.Action {
		refused.Add(1)
		return s3test.Cut
	})
	o := f.options()
	if s, err := Open(f.ctx, o); !errors.Is(err, blobstore.ErrUnavailable) {
		t.Fatalf("a command gets %v, %v", s, err)
	}
	once := refused.Load()
	f.bucket.Fault(func(*http.Request) s3test.Action {
		if refused.Add(1) > 3*once {
			return s3test.Pass
		}
		return s3test.Cut
	})
	o.Starting = f.ctx
	s, err := Open(f.ctx, o)
	f.must(err)
	f.must(s.Close())
	ended, end := context.WithCancel(f.ctx)
	end()
	f.bucket.Fault(func(*http.Request) s3test.Action { return s3test.Cut })
	o.Starting = ended
	if s, err := Open(f.ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("a daemon that is to end gets %v, %v", s, err)
	}
}

// The end of a start does not wait for a storage that hangs.
func TestOpen_endsWithTheStart(t *testing.T) {
	f := newFixture(t)
	f.must(f.Close())
	f.Store = nil
	starting, end := context.WithCancel(f.ctx)
	f.bucket.Fault(func(*http.Request) s3test.Action { end(); return s3test.Hang })
	o := f.options()
	o.Starting = starting
	o.Waiting = func(w Wait) {
		if w.Err != nil {
			t.Errorf("the attempt went on until it failed: %v", w.Err)
		}
	}
	if s, err := Open(f.ctx, o); !errors.Is(err, context.Canceled) {
		t.Errorf("Open gives %v, %v", s, err)
	}
	f.bucket.Fault(nil)
}

// While the storage is asked for blobs, other writes go on.
func TestStorage_isAskedBeforeTheTransaction(t *testing.T) {
	for name, do := range map[string]func(f *fixture, m Manifest){
		"for the layers of a manifest": func(f *fixture, m Manifest) {
			_, err := f.Manifests.Put(f.ctx, "app", m.Body, PutOptions{})
			f.must(err)
		},
		"for those of a run": func(f *fixture, m Manifest) {
			r, err := f.Runs.Begin(f.ctx, "run")
			f.must(err)
			f.must(r.PutManifest(f.ctx, "app", descriptor(m.MediaType, m.Body), m.Body))
		},
		"for a blob that is mounted": func(f *fixture, m Manifest) {
			_, err := f.Blobs.Mount(f.ctx, "other", "app", layerOf(m))
			f.must(err)
		},
		"for one that an upstream has too": func(f *fixture, m Manifest) {
			f.must(f.Blobs.LinkPulled(f.ctx, "other", layerOf(m), -1))
		},
		"for one without a row": func(f *fixture, m Manifest) {
			orphan := digest.FromString("orphan")
			f.must(os.MkdirAll(filepath.Dir(f.path(orphan)), 0o700))
			f.must(os.WriteFile(f.path(orphan), []byte("orphan"), 0o600))
			later := time.Now().Add(time.Hour)
			if n, _, err := f.Garbage.RemoveBlobs(f.ctx, later, []digest.Digest{orphan}); n != 1 || err != nil {
				f.t.Errorf("%d blobs are removed, %v", n, err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			m := f.pushImage("app", "app", "v1")
			var asked atomic.Int32
			f.bucket.Fault(func(r *http.Request) s3test.Action {
				if r.Method == http.MethodHead && strings.Contains(r.URL.Path, "/sha256/") {
					asked.Add(1)
					ctx, cancel := context.WithTimeout(f.ctx, 10*time.Second)
					defer cancel()
					if err := f.SetNote(ctx, "written meanwhile", "1"); err != nil {
						t.Errorf("a write while the storage is asked: %v", err)
					}
				}
				return s3test.Pass
			})
			do(f, m)
			if asked.Load() == 0 {
				t.Error("the storage was not asked")
			}
		})
	}
}

// A storage that hangs while a damaged blob goes to quarantine keeps other writes waiting for moments only, and the
// blob stays.
func TestStorage_hangsInAQuarantine(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.pushImage("app", "other", "v2")
	damaged := layerOf(m)
	content, err := os.ReadFile(f.path(damaged))
	f.must(err)
	content[0]++
	f.must(os.WriteFile(f.path(damaged), content, 0o600))
	// The blob is looked at, then asked for before the transaction and in it.
	var asked atomic.Int32
	within := make(chan struct{})
	f.bucket.Fault(func(r *http.Request) s3test.Action {
		if r.Method != http.MethodHead || !strings.HasSuffix(r.URL.Path, damaged.Encoded()) {
			return s3test.Pass
		}
		if asked.Add(1) < 3 {
			return s3test.Pass
		}
		if asked.Load() == 3 {
			close(within)
		}
		return s3test.Hang
	})
	scrubbed := make(chan error, 1)
	go func() {
		_, err := f.Integrity().ScrubBlob(f.ctx, damaged, func(context.Context, int) error { return nil })
		scrubbed <- err
	}()
	<-within
	ctx, cancel := context.WithTimeout(f.ctx, 25*time.Second) // less than one request to S3 has
	defer cancel()
	if err := f.SetNote(ctx, "written meanwhile", "1"); err != nil {
		t.Errorf("a write while the storage hangs: %v", err)
	}
	f.must(<-scrubbed)
	f.bucket.Fault(nil)
	if _, err := f.Blobs.Stat(f.ctx, "app", damaged); err != nil {
		t.Errorf("the blob is out of service: %v", err)
	}
	_, err = f.Integrity().ScrubBlob(f.ctx, damaged, func(context.Context, int) error { return nil })
	f.must(err)
	_, err = f.Blobs.Stat(f.ctx, "app", damaged)
	isNotFound(t, err)
}

// What is lost is not linked either: it has to be sent.
func TestMount_ofALostLayer(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.must(os.Remove(f.path(layerOf(m))))
	_, err := f.Blobs.Mount(f.ctx, "other", "app", layerOf(m))
	isNotFound(t, err)
	isNotFound(t, f.Blobs.LinkPulled(f.ctx, "other", layerOf(m), -1))
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

// A list may lack what is there, and have what is gone: nothing is lost by it.
func TestCollect_staleLists(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "kept", "kept")
	gone := f.pushImage("app", "gone", "gone")
	later := time.Now().Add(24 * time.Hour)
	f.bucket.Fault(func(r *http.Request) s3test.Action {
		if s3test.IsList(r) {
			return s3test.Stale
		}
		return s3test.Pass
	})
	all := func() {
		f.collect(later)
		f.must(f.Garbage.StaleUploads(f.ctx, later, func(id string, _ int64) error {
			_, err := f.Garbage.RemoveUpload(f.ctx, later, id)
			return err
		}))
	}
	all() // which has all lists made
	f.must(f.Manifests.Delete(f.ctx, "app", gone.Digest))
	_, err := f.Garbage.RemoveLinks(f.ctx, later)
	f.must(err)
	f.clock.add(24 * time.Hour)
	f.collect(later.Add(48 * time.Hour)) // lists what it removes
	f.pushImage("app", "new", "new")     // which no list has
	all()
	all()
	f.mustHave("app", "kept")
	f.mustHave("app", "new")
	if _, err := os.Stat(f.path(layerOf(gone))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("what was deleted: %v", err)
	}
	f.mustBeClean()
	f.bucket.Fault(nil)
	f.mustBeClean()
}
