package store

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// On a disk that is nearly full pushes are refused in time, so that pulls, deletes and collection go on.
func TestStore_NearlyFullDisk(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	half, err := f.NewUpload(f.ctx, "app")
	f.must(err)
	run, err := f.BeginRun(f.ctx, "run")
	f.must(err)
	f.space.statfs = func(string) (free, total int64, err error) { return keptFree - 1, 1 << 40, nil }

	body := index()
	blob := descriptor("x/y", []byte("blob"))
	for name, push := range map[string]func() error{
		"a new upload":  func() error { _, err := f.NewUpload(f.ctx, "app"); return err },
		"a large write": func() error { _, err := half.Write(make([]byte, 2*spaceEvery)); return err },
		"a long copy": func() error {
			_, err := half.ReadFrom(strings.NewReader(strings.Repeat("x", 2*spaceEvery)))
			return err
		},
		"a manifest":      func() error { _, err := f.PutManifest(f.ctx, "app", body, PutOptions{}); return err },
		"a blob of a run": func() error { return run.PutBlob(f.ctx, "app", blob, strings.NewReader("blob")) },
		"a manifest of a run": func() error {
			return run.PutManifest(f.ctx, "app", descriptor(ocispec.MediaTypeImageIndex, body), body)
		},
	} {
		var full *FullError
		if err := push(); !errors.As(err, &full) || full.Short < 1 {
			t.Errorf("%s: got %v, want a FullError that says how much is missing", name, err)
		}
	}

	got, err := f.ManifestByTag(f.ctx, "app", "v1")
	f.must(err)
	if !bytes.Equal(got.Body, m.Body) || f.read("app", digest.FromString("layer of app")) != "layer of app" {
		t.Error("a pull got something else")
	}
	f.must(half.Cancel(f.ctx))
	f.must(run.Abort(f.ctx))
	f.must(f.DeleteManifest(f.ctx, "app", m.Digest))
	f.clock.add(time.Hour)
	if n, _, err := f.RemoveBlobs(f.ctx, f.clock.now(), f.garbage(f.clock.now())); n != 2 || err != nil {
		t.Errorf("collection removed %d, %v", n, err)
	}
}

// What does not fit is refused before it is fetched over a slow line for an hour.
func TestRun_PutBlob_DoesNotFit(t *testing.T) {
	f := newFixture(t)
	f.space.statfs = func(string) (free, total int64, err error) { return 100 << 20, 1 << 40, nil }
	r, err := f.BeginRun(f.ctx, "run")
	f.must(err)
	unread := readerFunc(func([]byte) (int, error) { t.Error("it was read"); return 0, errors.New("read") })
	err = r.PutBlob(f.ctx, "app", ocispec.Descriptor{Digest: dA, Size: 70 << 20}, unread)
	var full *FullError
	if !errors.As(err, &full) || full.Short != 2<<20 {
		t.Errorf("got %v", err)
	}
}
