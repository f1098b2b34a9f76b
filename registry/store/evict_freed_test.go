package store

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// hasFile tells whether the file of a blob is there.
func (f *fixture) hasFile(d digest.Digest) bool {
	f.t.Helper()
	_, err := os.Stat(f.path(d))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		f.t.Fatal(err)
	}
	return err == nil
}

// pulledLayer is the layer of an image that pull makes.
func pulledLayer(name string) digest.Digest {
	return digest.FromString(strings.Repeat(name, evictedLayer)[:evictedLayer])
}

// evictAll evicts what can be evicted.
func (f *fixture) evictAll() {
	f.t.Helper()
	_, _, err := f.Garbage.EvictPulled(f.ctx, 0)
	f.must(err)
}

func TestStore_EvictPulled_FreesAtOnce(t *testing.T) {
	f := newFixture(t)
	f.pull("hub/app", "a")
	f.pull("hub/app", "b")
	if _, _, err := f.Garbage.EvictPulled(f.ctx, evictedLayer+pulledBody+2); err != nil {
		t.Fatal(err)
	}
	if f.hasFile(pulledLayer("a")) || !f.hasFile(pulledLayer("b")) {
		t.Errorf("the layer of a is there: %t, of b: %t", f.hasFile(pulledLayer("a")), f.hasFile(pulledLayer("b")))
	}
	if n, err := f.Stats(f.ctx); err != nil || n.BlobBytes != evictedLayer+2 {
		t.Errorf("%+v, %v", n, err)
	}
	f.verify()
	f.pull("hub/app", "a") // comes again
	if _, err := f.Blobs.Stat(f.ctx, "hub/app", pulledLayer("a")); err != nil {
		t.Error(err)
	}
}

// What others may rely on stays when the image goes, and collection takes it once they do not.
func TestStore_EvictPulled_LeavesWhatOthersRelyOn(t *testing.T) {
	for name, rely := range map[string]func(f *fixture) (done func()){
		"a push of the layer": func(f *fixture) func() {
			f.blob("team/app", strings.Repeat("a", evictedLayer))
			return func() {}
		},
		"a push of it to the repository itself": func(f *fixture) func() {
			f.blob("hub/app", strings.Repeat("a", evictedLayer))
			return func() {}
		},
		"a push that a pull followed": func(f *fixture) func() {
			f.blob("hub/app", strings.Repeat("a", evictedLayer))
			f.pulledBlob("hub/app", strings.Repeat("a", evictedLayer))
			return func() {}
		},
		"a mount": func(f *fixture) func() {
			_, err := f.Blobs.Mount(f.ctx, "team/app", "hub/app", pulledLayer("a"))
			f.must(err)
			return func() {}
		},
		"a recent check": func(f *fixture) func() {
			_, err := f.Blobs.Stat(f.ctx, "hub/app", pulledLayer("a"))
			f.must(err)
			return func() {}
		},
		"a blob that is being placed": func(f *fixture) func() {
			f.must(f.blobGuard().Enter(f.ctx, pulledLayer("a")))
			return func() { f.blobGuard().Leave(pulledLayer("a")) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pull("hub/app", "a")
			done := rely(f)
			f.evictAll()
			f.evictAll()
			done()
			if got := f.remaining("hub/app", "a"); got != "" {
				t.Errorf("left: %s", got)
			}
			held, err := database.Exists(f.ctx, f.db.Reader(), `SELECT 1 FROM blobs WHERE digest = ?`, pulledLayer("a"))
			if err != nil || !held || !f.hasFile(pulledLayer("a")) {
				t.Errorf("the layer went: row %t, file %t, %v", held, f.hasFile(pulledLayer("a")), err)
			}
			f.must(collectOlder(f.ctx, f.Store, f.clock.add(2*guard.ChecksKept)))
			if f.hasFile(pulledLayer("a")) {
				t.Error("a collection leaves the layer")
			}
			f.verify()
		})
	}
}

func TestStore_EvictPulled_LeavesFilesThatABackupCopies_SQLite(t *testing.T) {
	f := newFixture(t)
	f.pull("hub/app", "a")
	snapshot, err := f.Snapshot(f.ctx)
	f.must(err)
	f.evictAll()
	if !f.hasFile(pulledLayer("a")) {
		t.Error("a file went while a backup copies it")
	}
	f.must(snapshot.Release())
}

// What a pull brought whose image has gone meanwhile counts, and goes first.
func TestStore_EvictPulled_TakesStrays(t *testing.T) {
	f := newFixture(t)
	f.pull("hub/app", "a")
	f.pulledBlob("hub/app", "stray")
	if blobs, bytes, err := f.Garbage.EvictPulled(f.ctx, evictedLayer+pulledBody+6); blobs != 1 || bytes != 5 || err != nil {
		t.Errorf("%d blobs, %d bytes, %v", blobs, bytes, err)
	}
	if f.hasFile(digest.FromString("stray")) || f.remaining("hub/app", "a") != "a" {
		t.Error("the image went and not the stray")
	}
	f.verify()
}

// Manifests alone pass a quota, too.
func TestStore_EvictPulled_CountsManifests(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"old", "new"} {
		f.clock.add(1)
		_, err := f.Manifests.PutPulled(f.ctx, "hub/app", manifestOf(descriptor("x/y", []byte(name))), PutOptions{Tags: []string{name}})
		f.must(err)
	}
	var bodies int64
	f.must(f.db.Reader().QueryRow(`SELECT sum(size) FROM manifests`).Scan(&bodies))
	f.evictTo(bodies, "old new")
	f.evictTo(bodies-1, "new")
}

func (f *fixture) evictTo(quota int64, want string) {
	f.t.Helper()
	_, _, err := f.Garbage.EvictPulled(f.ctx, quota)
	f.must(err)
	if got := f.remaining("hub/app", "old", "new"); got != want {
		f.t.Errorf("with a quota of %d is left: %s", quota, got)
	}
}

func TestStore_QuotaPassed(t *testing.T) {
	f := newFixture(t)
	passed := func() bool {
		select {
		case <-f.Garbage.QuotaPassed():
			return true
		default:
			return false
		}
	}
	f.pull("hub/app", "a")
	if passed() {
		t.Error("a quota is passed that there is not")
	}
	quota := 2 * (evictedLayer + pulledBody + 2)
	if _, _, err := f.Garbage.EvictPulled(f.ctx, quota); err != nil || passed() {
		t.Errorf("one of two images passes it, %v", err)
	}
	f.blob("hub/app", strings.Repeat("pushed", evictedLayer))
	if passed() {
		t.Error("a push passes it")
	}
	f.pull("hub/app", "b")
	f.pull("hub/app", "c")
	if !passed() {
		t.Error("three images do not pass it")
	}
	if _, _, err := f.Garbage.EvictPulled(f.ctx, quota); err != nil || passed() {
		t.Errorf("it is passed still, %v", err)
	}
	if got := f.remaining("hub/app", "a", "b", "c"); got != "b c" {
		t.Errorf("left: %s", got)
	}
}
