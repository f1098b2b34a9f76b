package store

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

func TestStore_StaleUploads(t *testing.T) {
	f := newFixture(t)
	begin := func(content string) *Upload {
		t.Helper()
		u, err := f.Uploads.New(f.ctx, "app")
		f.must(err)
		write(t, u, content)
		f.must(u.Close())
		return u
	}
	age := func(id string) {
		t.Helper()
		old := time.Now().Add(-time.Hour)
		for _, path := range []string{f.uploadPath(id), f.statePath(id)} {
			if err := os.Chtimes(path, old, old); !errors.Is(err, os.ErrNotExist) {
				f.must(err)
			}
		}
	}
	stale, fresh, busy := begin("stale"), begin("fresh"), begin("busy")
	age(stale.ID())
	busy, err := f.Uploads.Resume(f.ctx, "app", busy.ID())
	f.must(err)
	age(busy.ID())
	torn := "00000000-0000-4000-8000-000000000000" // a crash left this
	f.must(os.WriteFile(f.uploadPath(torn), []byte("torn"), 0o600))
	age(torn)
	f.must(os.WriteFile(filepath.Join(f.storage(), "uploads", "README"), nil, 0o600))

	before := time.Now().Add(-time.Minute)
	got := map[string]int64{}
	f.must(f.Garbage.StaleUploads(f.ctx, before, func(id string, size int64) error { got[id] = size; return nil }))
	if len(got) != 2 || got[torn] != 4 || got[stale.ID()] <= int64(len("stale")) {
		t.Errorf("stale: %v, want %s and %s", got, stale.ID(), torn)
	}
	for _, id := range []string{stale.ID(), fresh.ID(), busy.ID(), torn} {
		freed, err := f.Garbage.RemoveUpload(f.ctx, before, id)
		f.must(err)
		if freed != got[id] {
			t.Errorf("%s: freed %d, planned %d", id, freed, got[id])
		}
	}
	_, err = f.Garbage.RemoveUpload(f.ctx, before, "../sha256")
	isNotFound(t, err)
	_, err = f.Uploads.Resume(f.ctx, "app", stale.ID())
	isNotFound(t, err)
	_, err = busy.Commit(f.ctx, digest.FromString("busy"))
	f.must(err)
	fresh, err = f.Uploads.Resume(f.ctx, "app", fresh.ID())
	f.must(err)
	f.must(fresh.Cancel(f.ctx))
}

func TestCollect_PageByPage(t *testing.T) {
	f := newFixture(t)
	var want []digest.Digest
	for i := range 8 {
		f.pushImage("app", fmt.Sprint("image ", i))
		want = append(want, f.blob("app", fmt.Sprint("garbage ", i)).Digest)
	}
	// What is referred to and not held lies between what is held.
	_, err := f.Manifests.PutPulled(f.ctx, "app", manifestOf(descriptor("x/y", []byte("nobody has it")), descriptor("x/y", []byte("nor this"))), PutOptions{})
	f.must(err)
	slices.Sort(want)
	before := f.later()
	for n := 1; n <= 8*3+1; n++ {
		var got []digest.Digest
		for last := digest.Digest(""); last != afterAllDigests; {
			page, end, err := f.garbageOf(f.ctx, before, last, n)
			f.must(err)
			for _, b := range page {
				got = append(got, b.digest)
			}
			last = end
		}
		if !slices.Equal(got, want) {
			t.Errorf("in pages of %d: %v", n, got)
		}
	}
}

// The planner knows nothing of a database that is new, and of an old one what
// Maintain let it look at.
func TestCollect_PlanMergesIndexes_SQLite(t *testing.T) {
	f := newFixture(t)
	for i := range 100 {
		f.pushImage("app", fmt.Sprint("image ", i))
	}
	for _, state := range []string{"never analyzed", "maintained"} {
		if state == "maintained" {
			f.must(f.Maintain(f.ctx))
			f.reopen()
		}
		text := f.explain(garbageIn, 0, "", afterAllDigests)
		for _, want := range []string{"MERGE (EXCEPT)", "SEARCH blobs USING PRIMARY KEY (digest>? AND digest<?)",
			"SEARCH manifest_refs USING COVERING INDEX manifest_refs_by_digest (digest>? AND digest<?)", "SEARCH b USING PRIMARY KEY (digest=?)"} {
			if !strings.Contains(text, want) {
				t.Errorf("%s: no %q in\n%s", state, want, text)
			}
		}
		if strings.Contains(text, "SCAN ") || strings.Contains(text, "TEMP B-TREE") {
			t.Errorf("%s: it goes over too much:\n%s", state, text)
		}
	}
}

func TestCollect_FilesAroundOneWithARow(t *testing.T) {
	f := newFixture(t)
	held := layerOf(f.pushImage("app", "app"))
	dir, prefix := filepath.Dir(f.path(held)), held.Encoded()[:2]
	want := []digest.Digest{}
	for _, rest := range []string{"0", "f"} {
		d := digest.NewDigestFromEncoded(digest.SHA256, prefix+strings.Repeat(rest, 62))
		f.must(os.WriteFile(f.path(d), []byte("a crash"), 0o600))
		want = append(want, d)
	}
	for _, others := range []string{".hidden", prefix, held.Encoded() + ".tmp", "zz"} {
		f.must(os.WriteFile(filepath.Join(dir, others), nil, 0o600))
	}
	if got := f.garbage(f.clock.add(time.Hour)); !slices.Equal(got, want) {
		t.Errorf("found %v, not %v", got, want)
	}
}
