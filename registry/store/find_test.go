package store

import (
	"testing"

	"github.com/opencontainers/go-digest"
)

func TestStore_FindBlob(t *testing.T) {
	f := newFixture(t)
	d := f.blob("a", "content").Digest
	for _, repo := range []string{"b", "c"} {
		_, err := f.Blobs.Mount(f.ctx, repo, "a", d)
		f.must(err)
	}
	for _, readable := range []string{"a", "b", "c"} {
		got, err := f.Blobs.Find(f.ctx, d, func(repo string) bool { return repo == readable })
		if err != nil || got != readable {
			t.Errorf("of a user who may read %s: %q, %v", readable, got, err)
		}
	}
	_, err := f.Blobs.Find(f.ctx, d, func(string) bool { return false })
	isNotFound(t, err)
	f.must(f.Blobs.Delete(f.ctx, "b", d))
	_, err = f.Blobs.Find(f.ctx, d, func(repo string) bool { return repo == "b" })
	isNotFound(t, err)
	_, err = f.Blobs.Find(f.ctx, digest.FromString("absent"), func(string) bool { return true })
	isNotFound(t, err)
}
