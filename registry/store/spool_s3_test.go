//go:build s3

package store

import (
	"errors"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace/diskspacetest"
)

// What clients read of a download is on a disk of this host while it is sent to S3: an upstream must not fill that.
func TestUpload_spoolOnAFullDisk(t *testing.T) {
	f := newFixture(t)
	dir, fill := diskspacetest.Small(t)
	t.Setenv("TMPDIR", dir)
	full := func(what string, err error) {
		t.Helper()
		var full *FullError
		if !errors.As(err, &full) || full.Path != dir {
			t.Errorf("%s: got %v, want a FullError of %s", what, err, dir)
		}
	}
	quiet := func(int) {}
	_, err := f.Uploads.NewPulled(f.ctx, "app", 64<<20, quiet)
	full("announced", err)
	_, err = f.Uploads.ContinuePulled(f.ctx, "app", digest.FromString("x"), 64<<20, 0, quiet)
	full("announced by a manifest", err)

	u, err := f.Uploads.NewPulled(f.ctx, "app", -1, quiet)
	f.must(err)
	r, err := u.Open()
	f.must(err)
	_, err = u.Write(make([]byte, 1<<20))
	f.must(err)
	fill()
	var written int
	for ; written < 64 && err == nil; written++ {
		_, err = u.Write(make([]byte, 1<<20))
	}
	full("not announced", err)
	f.must(errors.Join(r.Close(), u.Cancel(f.ctx)))

	push, err := f.Uploads.New(f.ctx, "app") // is read only when it is there
	f.must(err)
	for range 20 {
		_, err = push.Write(make([]byte, 1<<20))
		f.must(err)
	}
	f.must(push.Cancel(f.ctx))
}

func TestUpload_largerThanS3Takes(t *testing.T) {
	f := newFixture(t)
	for what, err := range map[string]error{
		"announced": second(f.Uploads.NewPulled(f.ctx, "app", 1<<40, func(int) {})),
		"of a run":  second(f.newUpload("app", 1<<40)),
	} {
		if !errors.As(err, new(*TooLargeError)) {
			t.Errorf("%s: got %v", what, err)
		}
	}
}
