package store

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// A database that is not there (not mounted, moved away before a restore that a request for an
// image comes before) must not be made anew: the blobs would be garbage of the new one.
func TestOpen_withoutTheDatabaseOfTheStorage_SQLite(t *testing.T) {
	for name, c := range map[string]struct {
		algorithm digest.Algorithm
		left      []byte // at the path of the database; nil: nothing
	}{
		"gone":                     {digest.SHA256, nil},
		"gone, and sha512":         {digest.SHA512, nil},
		"empty":                    {digest.SHA256, []byte{}},
		"empty, and it was sha512": {digest.SHA512, []byte{}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			d := c.algorithm.FromString("content")
			u, err := f.Uploads.New(f.ctx, "app")
			f.must(err)
			_, err = u.Write([]byte("content"))
			f.must(err)
			_, err = u.Commit(f.ctx, d)
			f.must(err)
			f.must(f.Close())
			aside := f.database + ".aside"
			f.must(os.Rename(f.database, aside))
			if c.left != nil {
				f.must(os.WriteFile(f.database, c.left, 0o600))
			}
			o := f.options()
			for range 2 { // what the first has left does not let the second
				if s, err := Open(f.ctx, o); err == nil || !strings.Contains(err.Error(), "there is no database "+f.database) || hint.Of(err) == "" {
					t.Fatalf("Open gives %v, %v", s, err)
				}
			}

			f.must(os.Rename(aside, f.database))
			f.Store = nil
			f.reopen()
			b, err := f.Blobs.Open(f.ctx, "app", d)
			f.must(err)
			f.must(b.Close())
		})
	}
}

// A first life that ended in its first push has left a file, and has a database.
func TestOpen_afterAFirstPushWasKilled_SQLite(t *testing.T) {
	f := newFixture(t)
	d := digest.FromString("content")
	path := f.path(d)
	f.must(os.MkdirAll(filepath.Dir(path), 0o700))
	f.must(os.WriteFile(path, []byte("content"), 0o600))
	f.reopen()
	removed, _, err := f.Garbage.RemoveBlobs(f.ctx, time.Now().Add(time.Hour), []digest.Digest{d})
	if err != nil || removed != 1 {
		t.Errorf("collection removes %d, %v", removed, err)
	}
}
