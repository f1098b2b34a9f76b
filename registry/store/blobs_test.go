package store

import (
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// A read often finds damage first. From then on no answer has the blob.
func TestStore_OpenBlob_takesDamageOutOfService(t *testing.T) {
	for name, damage := range map[string]func(f *fixture, d digest.Digest){
		"cut short": func(f *fixture, d digest.Digest) { f.truncate(d, 2) },
		"grown":     func(f *fixture, d digest.Digest) { f.truncate(d, 2000) },
		"missing":   func(f *fixture, d digest.Digest) { f.must(os.Remove(f.path(d))) },
		"missing with its directory": func(f *fixture, d digest.Digest) {
			f.must(os.RemoveAll(filepath.Dir(f.path(d))))
		},
		"a directory": func(f *fixture, d digest.Digest) {
			f.must(os.Remove(f.path(d)))
			f.must(os.Mkdir(f.path(d), 0o700))
		},
		"what cannot be opened": func(f *fixture, d digest.Digest) {
			f.must(os.Remove(f.path(d)))
			f.socket(f.path(d))
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixtureWith(t, name)
			f.pushImage("app", "other")
			m := f.pushImage("app", "app", "v1")
			d := layerOf(m)
			_, err := f.Blobs.Mount(f.ctx, "linked", "app", d)
			f.must(err)
			run, err := f.Runs.Begin(f.ctx, "sync")
			f.must(err)
			damage(f, d)
			_, err = f.Blobs.Open(f.ctx, "app", d)
			isNotFound(t, err)
			f.mustNotBeHeld(run, m, d)
			if row, _ := f.quarantineHas(d); !row {
				t.Error("it is not in quarantine")
			}
			f.blob("app", "layer of app") // pushed again
			f.mustHave("app", "v1")
			if _, err := f.Blobs.Stat(f.ctx, "linked", d); err != nil {
				t.Errorf("its link is lost: %v", err)
			}
			f.mustBeClean()
		})
	}
}

// socket makes one: open(2) of it fails with ENXIO, as that of a device that is gone.
func (f *fixture) socket(path string) {
	f.t.Helper()
	dir, err := os.MkdirTemp("", "s") // path can be too long for a socket
	f.must(err)
	defer os.RemoveAll(dir)
	short := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: short})
	f.must(err)
	l.SetUnlinkOnClose(false)
	f.must(l.Close())
	f.must(os.Rename(short, path))
}

// A storage that is not there, or not all of it, is not damage of the blobs that are
// asked for while it lasts.
func TestStore_OpenBlob_keepsTheRowsOfAStorageThatIsAway(t *testing.T) {
	for name, away := range map[string]func(f *fixture, images []Manifest) (back func()){
		"not mounted": func(f *fixture, _ []Manifest) func() {
			dir := filepath.Join(f.storage(), "sha256")
			f.must(os.Rename(dir, dir+"-away"))
			return func() { f.must(os.Rename(dir+"-away", dir)) }
		},
		"an empty directory in its place": func(f *fixture, _ []Manifest) func() {
			dir := filepath.Join(f.storage(), "sha256")
			f.must(os.Rename(dir, dir+"-away"))
			f.must(os.Mkdir(dir, 0o700))
			return func() { f.must(os.Remove(dir)); f.must(os.Rename(dir+"-away", dir)) }
		},
		"another in its place, with a blob that was pushed meanwhile": func(f *fixture, images []Manifest) func() {
			dir := filepath.Join(f.storage(), "sha256")
			f.must(os.Rename(dir, dir+"-away"))
			kept := f.path(layerOf(images[0]))
			f.must(os.MkdirAll(filepath.Dir(kept), 0o700))
			f.must(os.WriteFile(kept, []byte("layer of b"), 0o600))
			return func() { f.must(os.RemoveAll(dir)); f.must(os.Rename(dir+"-away", dir)) }
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			images := []Manifest{f.pushImage("app", "b", "v2"), f.pushImage("app", "app", "v1"), f.pushImage("app", "c", "v3")}
			back := away(f, images)
			for _, m := range images[1:] {
				_, err := f.Blobs.Open(f.ctx, "app", layerOf(m))
				var storage *StorageError
				if !errors.As(err, &storage) || errors.Is(err, ErrNotFound) {
					t.Errorf("got %v, want a StorageError", err)
				}
			}
			back()
			for _, tag := range []string{"v1", "v2", "v3"} {
				f.mustHave("app", tag)
			}
			f.mustBeClean()
		})
	}
}

// Clients read a blob, and one pushes it again: none gets half of it, and in the end it is
// there.
func TestStore_OpenBlob_damageWhileOthersPush(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	d := layerOf(m)
	for range 20 {
		f.truncate(d, 2)
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				b, err := f.Blobs.Open(f.ctx, "app", d)
				if errors.Is(err, ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				defer b.Close()
				if content, err := io.ReadAll(b); err != nil || string(content) != "layer of app" {
					t.Errorf("read %q, %v", content, err)
				}
			})
		}
		wg.Go(func() { f.blob("app", "layer of app") })
		wg.Wait()
		f.mustHave("app", "v1")
	}
	f.must(f.Integrity().TidyQuarantine(f.ctx))
	f.mustBeClean()
}
