package store

import (
	"bytes"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
	"github.com/mirror-appliance/appliance/internal/throttle"
)

// On a disk that is nearly full pushes are refused in time, so that pulls, deletes
// and collection go on.
func TestStore_NearlyFullDisk(t *testing.T) {
	f := newFixture(t)
	if onServer != nil { // then only blobs in files need a disk
		f = newFileFixture(t)
	}
	m := f.pushImage("app", "app", "v1")
	half, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	small, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	_, err = small.Write([]byte("small"))
	f.must(err)
	run, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	f.space.Bytes = func(string) (free, total int64, err error) { return diskspace.Least - 1, 1 << 40, nil }

	body := index()
	blob := descriptor("x/y", []byte("blob"))
	rowsAlone := []string{"a manifest", "a mount", "a manifest of a run"}
	for name, push := range map[string]func() error{
		"a new upload":  func() error { _, err := f.Uploads.New(f.ctx, "app"); return err },
		"a large write": func() error { _, err := half.Write(make([]byte, 2*spaceEvery)); return err },
		"a long copy": func() error {
			_, err := half.ReadFrom(strings.NewReader(strings.Repeat("x", 2*spaceEvery)))
			return err
		},
		"a manifest": func() error { _, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{}); return err },
		"the end of an upload": func() error {
			_, err := small.Commit(f.ctx, digest.FromString("small"))
			return err
		},
		"a mount": func() error {
			_, err := f.Blobs.Mount(f.ctx, "other", "app", digest.FromString("layer of app"))
			return err
		},
		"a blob of a run": func() error { return run.PutBlob(f.ctx, "app", blob, strings.NewReader("blob")) },
		"a manifest of a run": func() error {
			return run.PutManifest(f.ctx, "app", descriptor(ocispec.MediaTypeImageIndex, body), body)
		},
	} {
		if onServer != nil && slices.Contains(rowsAlone, name) { // which take space at the server
			f.must(push())
			continue
		}
		var full *FullError
		if err := push(); !errors.As(err, &full) || full.Short < 1 {
			t.Errorf("%s: got %v, want a FullError that says how much is missing", name, err)
		}
	}

	got, err := f.Manifests.ByTag(f.ctx, "app", "v1")
	f.must(err)
	if !bytes.Equal(got.Body, m.Body) || f.read("app", digest.FromString("layer of app")) != "layer of app" {
		t.Error("a pull got something else")
	}
	f.must(half.Cancel(f.ctx))
	f.must(run.Abort(f.ctx))
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	f.clock.add(time.Hour)
	if n, _, err := f.Garbage.RemoveBlobs(f.ctx, f.clock.now(), f.garbage(f.clock.now())); n != 2 || err != nil {
		t.Errorf("collection removed %d, %v", n, err)
	}
}

// What does not fit is refused before it is fetched over a slow line for an hour.
func TestRun_PutBlob_DoesNotFit(t *testing.T) {
	f := newFileFixture(t)
	f.space.Bytes = func(string) (free, total int64, err error) { return 100 << 20, 1 << 40, nil }
	r, err := f.Runs.Begin(f.ctx, "run")
	f.must(err)
	unread := throttle.ReaderFunc(func([]byte) (int, error) { t.Error("it was read"); return 0, errors.New("read") })
	err = r.PutBlob(f.ctx, "app", ocispec.Descriptor{Digest: dA, Size: 70 << 20}, unread)
	var full *FullError
	if !errors.As(err, &full) || full.Short != 2<<20 {
		t.Errorf("got %v", err)
	}
}

func TestOptions_MinFree(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(t.Context(), Options{Database: databaseIn(t, dir), Storage: filepath.Join(dir, "storage"), MinFree: 10 << 30})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, test := range []struct {
		storage, database int64 // bytes free
		short             int64
		path              string // of what is short
	}{
		{storage: 10 << 30, database: 10 << 30},
		{storage: 10<<30 - 1, database: 20 << 30, short: 1, path: s.files.Root()},
		{storage: 20 << 30, database: 4 << 30, short: 6 << 30, path: s.database},
	} {
		if onServer != nil && test.path == s.database { // whose disk is the server's
			continue
		}
		s.space.Bytes = func(path string) (free, total int64, err error) {
			if path == s.database {
				return test.database, 1 << 40, nil
			}
			return test.storage, 1 << 40, nil
		}
		u, err := s.Uploads.New(t.Context(), "app")
		if err == nil {
			err = u.Cancel(t.Context())
		}
		var full *FullError
		switch {
		case test.short == 0 && err != nil:
			t.Errorf("with enough: got %v", err)
		case test.short > 0 && (!errors.As(err, &full) || full.Short != test.short || full.Path != test.path):
			t.Errorf("%s is %d short: got %v", test.path, test.short, err)
		}
	}
}

// Another program fills the disk to the last byte. Pushes are refused with that cause;
// pulls, deletes and collection go on, also those of a daemon that is started then, and
// collection frees space.
func TestStore_FullDisk(t *testing.T) {
	for name, restart := range map[string]bool{"while it runs": false, "before it starts": true} {
		t.Run(name, func(t *testing.T) {
			dir, fill := diskspacetest.Small(t)
			f := newFileFixtureIn(t, dir)
			content := strings.Repeat("large ", 1<<18)
			layer := f.blob("app", content)
			m, err := f.Manifests.Put(f.ctx, "app", manifestOf(f.blob("app", "{}"), layer), PutOptions{Tags: []string{"v1"}})
			f.must(err)
			f.reopen() // and the WAL is gone
			if restart {
				f.must(f.Close())
				f.Store = nil
				fill()
				f.reopen()
			}
			fill()

			var full *FullError
			if _, err := f.Uploads.New(f.ctx, "app"); !errors.As(err, &full) || full.Short == 0 {
				t.Errorf("a push: got %v", err)
			}
			if f.read("app", layer.Digest) != content {
				t.Error("a pull got something else")
			}
			f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
			fill()
			now := f.clock.add(time.Hour)
			if n, bytes, err := f.Garbage.RemoveBlobs(f.ctx, now, f.garbage(now)); n != 2 || bytes < layer.Size || err != nil {
				t.Errorf("collection removed %d blobs of %d bytes, %v", n, bytes, err)
			}
			f.verify()
		})
	}
}
