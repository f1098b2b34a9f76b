package store

import (
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
)

// read reads a manifest by tag and by digest, twice, so that the second time comes from memory.
func readTwice(t *testing.T, f *fixture, repo, tag string, d digest.Digest) (byTag, byDigest error) {
	t.Helper()
	for range 2 {
		_, byTag = f.Manifests.ByTag(f.ctx, repo, tag)
		_, byDigest = f.Manifests.Get(f.ctx, repo, d)
	}
	return byTag, byDigest
}

func TestRecent_writesAreSeen(t *testing.T) {
	f := newFixture(t)
	d, err := smallImage(f.ctx, f.Store, "app", "one")
	if err != nil {
		t.Fatal(err)
	}
	if a, b := readTwice(t, f, "app", "one", d); a != nil || b != nil {
		t.Fatal(a, b)
	}
	if _, _, ok := f.cache.get(cacheKey{"app", "one"}); !ok {
		t.Error("a read manifest is not kept")
	}
	if _, err := f.Manifests.Get(f.ctx, "other", d); !errors.Is(err, ErrNotFound) {
		t.Errorf("another repository has it: %v", err)
	}
	if err := f.Tags.Delete(f.ctx, "app", "one"); err != nil {
		t.Fatal(err)
	}
	if a, b := readTwice(t, f, "app", "one", d); !errors.Is(a, ErrNotFound) || b != nil {
		t.Errorf("after the tag was deleted: %v, %v", a, b)
	}
	if err := f.Manifests.Delete(f.ctx, "app", d); err != nil {
		t.Fatal(err)
	}
	if _, b := readTwice(t, f, "app", "one", d); !errors.Is(b, ErrNotFound) {
		t.Errorf("after the manifest was deleted: %v", b)
	}
}

func TestRecent_tagMoves(t *testing.T) {
	f := newFixture(t)
	var wg sync.WaitGroup
	defer wg.Wait()
	stop := make(chan struct{})
	defer close(stop)
	for range 4 {
		wg.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					_, _ = f.Manifests.ByTag(f.ctx, "app", "latest") // only to keep it in memory
				}
			}
		})
	}
	for n := range 100 {
		body := mustJSON(map[string]any{"schemaVersion": 2, "mediaType": "x/y", "annotations": map[string]string{"n": fmt.Sprint(n)}})
		put, err := f.Manifests.Put(f.ctx, "app", body, PutOptions{Tags: []string{"latest"}})
		if err != nil {
			t.Fatal(err)
		}
		if got, err := f.Manifests.ByTag(f.ctx, "app", "latest"); err != nil || got.Digest != put.Digest {
			t.Fatalf("after move %d the tag names %s, not %s (%v)", n, got.Digest, put.Digest, err)
		}
	}
}

func TestRecent_bounds(t *testing.T) {
	var r manifestCache
	_, epoch, _ := r.get(cacheKey{})
	r.put(cacheKey{"a", "huge"}, Manifest{Body: make([]byte, cacheLargest+1)}, epoch)
	if len(r.known) != 0 {
		t.Error("a huge manifest is kept")
	}
	body := []byte(strings.Repeat("x", cacheLargest))
	for n := range 3 * cacheMin / cacheLargest {
		r.put(cacheKey{"a", fmt.Sprint(n)}, Manifest{Body: body}, epoch)
	}
	if r.bytes > cacheMin || len(r.known) == 0 || r.bytes != len(r.known)*cacheCost(Manifest{Body: body}) {
		t.Errorf("%d manifests are kept, counted as %d bytes", len(r.known), r.bytes)
	}
	r.noteRow(true, []any{int64(7), "other"}, nil)
	r.forget()
	before := len(r.known)
	if r.put(cacheKey{"a", "old"}, Manifest{}, epoch); before == 0 || len(r.known) != before {
		t.Error("what was read before a write is kept after it")
	}
}

// A write forgets what it changes and nothing else, whichever way it is changed.
func TestRecent_othersAreKept(t *testing.T) {
	f := newFixture(t)
	kept := f.pushImage("app", "kept", "kept")
	moved := f.pushImage("app", "moved", "moved")
	_, _ = readTwice(t, f, "app", "kept", kept.Digest)
	_, _ = readTwice(t, f, "app", "moved", moved.Digest)
	other := f.pushImage("app", "another", "moved")
	f.pushImage("elsewhere", "kept", "kept")
	f.must(f.Manifests.Delete(f.ctx, "app", moved.Digest))
	for reference, want := range map[string]bool{"kept": true, kept.Digest.String(): true, "moved": false, moved.Digest.String(): false} {
		if _, _, ok := f.cache.get(cacheKey{"app", reference}); ok != want {
			t.Errorf("%s is known: %t", reference, ok)
		}
	}
	if got, err := f.Manifests.ByTag(f.ctx, "app", "moved"); err != nil || got.Digest != other.Digest {
		t.Errorf("the tag that was moved names %s, %v", got.Digest, err)
	}
	f.must(f.db.Write(f.ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(f.ctx, `UPDATE repository_manifests SET media_type = 'x/other' WHERE digest = ?`, kept.Digest)
		return err
	}))
	if _, _, ok := f.cache.get(cacheKey{"app", "kept"}); ok {
		t.Error("the tag of a link that changed is known")
	}
}
