package store

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// scrub scrubs one blob and says what its damage was.
func (f *fixture) scrub(d digest.Digest) string {
	f.t.Helper()
	damage, err := f.Integrity().ScrubBlob(f.ctx, d, throttle.New(0))
	f.must(err)
	return damage
}

func (f *fixture) quarantineHas(d digest.Digest) (row, file bool) {
	f.t.Helper()
	row = f.count(`SELECT count(*) FROM quarantine WHERE digest = ? AND cause <> '' AND since = ?`, d, database.Nanos(f.clock.now())) > 0
	_, err := os.Lstat(filepath.Join(f.storage(), "quarantine", strings.Replace(d.String(), ":", "-", 1)))
	return row, err == nil
}

func (f *fixture) images(d digest.Digest) []string {
	f.t.Helper()
	images, err := f.Integrity().BlobImages(f.ctx, d)
	f.must(err)
	return images
}

func TestStore_ScrubBlob_takesDamageOutOfService(t *testing.T) {
	for name, c := range map[string]struct {
		damage func(f *fixture, d digest.Digest)
		what   string
		file   bool // there is one to look at
	}{
		"flipped":      {(*fixture).flip, "hashes to", true},
		"cut short":    {func(f *fixture, d digest.Digest) { f.truncate(d, 2) }, "has 2 bytes", true},
		"grown":        {func(f *fixture, d digest.Digest) { f.truncate(d, 2000) }, "has 2000 bytes", true},
		"missing":      {func(f *fixture, d digest.Digest) { f.must(os.Remove(f.path(d))) }, "is missing", false},
		"a bad sector": {(*fixture).unreadable, "input/output error", true},
		"a directory": {func(f *fixture, d digest.Digest) {
			f.must(os.Remove(f.path(d)))
			f.must(os.MkdirAll(filepath.Join(f.path(d), "x"), 0o700))
		}, "is not a file", true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixtureWith(t, name)
			m := f.pushImage("app", "app", "v1")
			d := layerOf(m)
			_, err := f.Blobs.Mount(f.ctx, "linked", "app", d) // where no manifest is made of it
			f.must(err)
			run, err := f.Runs.Begin(f.ctx, "sync")
			f.must(err)
			if has, err := hasBlob(f.ctx, run, "linked", d); !has || err != nil {
				t.Fatal(has, err)
			}
			if damage := f.scrub(d); damage != "" {
				t.Fatalf("a whole blob is damaged: %s", damage)
			}
			c.damage(f, d)
			if damage := f.scrub(d); !strings.Contains(damage, c.what) {
				t.Fatalf("damage is %q", damage)
			}
			f.mustNotBeHeld(run, m, d)
			if row, file := f.quarantineHas(d); !row || file != c.file {
				t.Errorf("in quarantine: row %v, file %v", row, file)
			}
			if damage := f.scrub(d); damage != "" {
				t.Errorf("scrubbed again it is %q", damage)
			}
			if got := f.verified(VerifyOptions{}); len(got.Problems) != 1 || got.Quarantined != 1 || !strings.Contains(got.Problems[0].What, "in quarantine") {
				t.Errorf("verify says %+v", got)
			}

			f.blob("elsewhere", "layer of app") // a client pushes it again
			if row, _ := f.quarantineHas(d); row {
				t.Error("pushed again, it is in quarantine still")
			}
			f.mustHave("app", "v1")
			if _, err := f.Blobs.Stat(f.ctx, "linked", d); err != nil {
				t.Errorf("its link is lost: %v", err)
			}
			f.must(f.Integrity().TidyQuarantine(f.ctx))
			if _, file := f.quarantineHas(d); file {
				t.Error("the damaged file stays")
			}
			f.mustBeClean()
		})
	}
}

func (f *fixture) mustNotBeHeld(run *Run, m Manifest, d digest.Digest) {
	f.t.Helper()
	_, err := f.Blobs.Stat(f.ctx, "app", d)
	if !errors.Is(err, ErrNotFound) {
		f.t.Errorf("HEAD: %v", err)
	}
	if _, err := f.Blobs.Open(f.ctx, "app", d); !errors.Is(err, ErrNotFound) {
		f.t.Errorf("GET: %v", err)
	}
	if _, err := f.Blobs.Mount(f.ctx, "other", "", d); !errors.Is(err, ErrNotFound) {
		f.t.Errorf("mount: %v", err)
	}
	var missing *MissingError
	if _, err := f.Manifests.Put(f.ctx, "app", m.Body, PutOptions{}); !errors.As(err, &missing) {
		f.t.Errorf("manifest: %v", err)
	}
	for _, repo := range []string{"app", "synced"} {
		blobs, manifests, unconfirmed, err := run.Existing(f.ctx, map[string][]digest.Digest{repo: {d}}, map[string][]digest.Digest{repo: {m.Digest}})
		if len(blobs)+len(manifests)+len(unconfirmed) != 0 || err != nil {
			f.t.Errorf("a sync to %s is told that it is there: %v, %v, %v, %v", repo, blobs, manifests, unconfirmed, err)
		}
	}
	if _, err := os.Lstat(f.path(d)); !errors.Is(err, fs.ErrNotExist) {
		f.t.Errorf("its file is in place still: %v", err)
	}
}

// TestStore_ScrubBlob_replacedMeanwhile: what a push heals between the reading and
// the quarantine stays.
func TestStore_ScrubBlob_replacedMeanwhile(t *testing.T) {
	heal := map[string]func(f *fixture, d digest.Digest){
		"a push":      func(f *fixture, d digest.Digest) { f.blob("app", "layer of app") },
		"a delete":    func(f *fixture, d digest.Digest) { f.corrupt(`DELETE FROM blobs WHERE digest = ?`, d) },
		"a push half": func(f *fixture, d digest.Digest) { f.must(f.blobGuard().Enter(f.ctx, d)) },
	}
	for name, heal := range heal {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			d := layerOf(f.pushImage("app", "app", "v1"))
			f.flip(d)
			healed := false
			damage, err := f.Integrity().ScrubBlob(f.ctx, d, func(context.Context, int) error {
				if !healed {
					healed = true
					heal(f, d)
				}
				return nil
			})
			if err != nil || damage != "" {
				t.Errorf("damage %q, %v", damage, err)
			}
			if row, _ := f.quarantineHas(d); row {
				t.Error("it is in quarantine")
			}
			if name == "a push" {
				f.mustHave("app", "v1")
			}
		})
	}
}

func TestStore_ScrubBlob_storageThatIsNotMounted(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.must(os.Rename(filepath.Join(f.storage(), "sha256"), filepath.Join(f.dir, "unmounted")))
	_, err := f.Integrity().ScrubBlob(f.ctx, layerOf(m), throttle.New(0))
	var storage *StorageError
	if !errors.As(err, &storage) || storage.Hint() == "" {
		t.Fatalf("got %v, want a StorageError", err)
	}
	f.must(os.Rename(filepath.Join(f.dir, "unmounted"), filepath.Join(f.storage(), "sha256")))
	f.mustHave("app", "v1")
}

func TestStore_ScrubBlob_errorsThatAreNoDamage(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	stop := errors.New("stop")
	if _, err := f.Integrity().ScrubBlob(f.ctx, layerOf(m), func(context.Context, int) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("got %v", err)
	}
	if row, _ := f.quarantineHas(layerOf(m)); row {
		t.Error("a scrub that was stopped has cost a blob")
	}
}

func TestStore_PutBack(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	d := layerOf(m)
	f.truncate(d, 1)
	f.scrub(d)
	var wrong *DigestError
	for _, content := range []string{"", "layer of", "layer of apq", "layer of app and more"} {
		if err := f.Integrity().PutBack(f.ctx, d, 12, strings.NewReader(content)); !errors.As(err, &wrong) {
			t.Errorf("put back %q: %v", content, err)
		}
	}
	if row, _ := f.quarantineHas(d); !row {
		t.Error("it has left quarantine")
	}
	f.must(f.Integrity().PutBack(f.ctx, d, 12, strings.NewReader("layer of app")))
	f.mustHave("app", "v1")
	f.must(f.Integrity().TidyQuarantine(f.ctx))
	if row, file := f.quarantineHas(d); row || file {
		t.Errorf("in quarantine still: row %v, file %v", row, file)
	}
	if left := f.list("uploads"); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestStore_BlobImages(t *testing.T) {
	f := newFixture(t)
	child := f.pushImage("team/multi", "child")
	m, err := f.Manifests.Put(f.ctx, "team/multi", index(child.Descriptor()), PutOptions{Tags: []string{"v1", "v2"}})
	f.must(err)
	_, err = f.Manifests.Put(f.ctx, "team/multi", index(m.Descriptor()), PutOptions{Tags: []string{"nested"}})
	f.must(err)
	alone, err := f.Manifests.Put(f.ctx, "bare", manifestOf(f.blob("bare", "{}"), f.blob("bare", "layer of child")), PutOptions{})
	f.must(err)
	f.pushImage("other", "other", "v1")
	want := []string{"bare@" + alone.Digest.String(), "team/multi:nested", "team/multi:v1", "team/multi:v2"}
	if got := f.images(layerOf(child)); !slices.Equal(got, want) {
		t.Errorf("images %q, want %q", got, want)
	}
	if got := f.images(digest.FromString("unknown")); len(got) > 0 {
		t.Errorf("of an unknown blob: %q", got)
	}
}

func TestStore_ScrubCursor(t *testing.T) {
	f := newFixture(t)
	mustBe := func(want digest.Digest) {
		t.Helper()
		got, err := f.Integrity().ScrubCursor(f.ctx)
		f.must(err)
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	mustBe("")
	for _, d := range []digest.Digest{"sha256:1", "sha256:2", ""} {
		f.must(f.Integrity().SetScrubCursor(f.ctx, d))
		f.reopen() // a restart does not forget it
		mustBe(d)
	}
}

func TestStore_Blobs(t *testing.T) {
	f := newFixture(t)
	f.variety()
	var all []digest.Digest
	list := func(after digest.Digest) (ds []digest.Digest) {
		f.must(f.Integrity().Blobs(f.ctx, after, func(d digest.Digest, size int64) error { ds = append(ds, d); return nil }))
		return ds
	}
	all = list("")
	if len(all) < 6 || !slices.IsSorted(all) {
		t.Fatalf("blobs %v", all)
	}
	if rest := list(all[2]); !slices.Equal(rest, all[3:]) {
		t.Errorf("after the third: %v", rest)
	}
}

func TestStore_TidyQuarantine(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.flip(layerOf(m))
	f.scrub(layerOf(m))
	note := filepath.Join(filepath.Join(f.storage(), "quarantine"), "README")
	f.must(os.WriteFile(note, nil, 0o600))
	f.must(f.Integrity().TidyQuarantine(f.ctx))
	if row, file := f.quarantineHas(layerOf(m)); !row || !file {
		t.Errorf("what an image needs: row %v, file %v", row, file)
	}
	f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
	f.must(f.Integrity().TidyQuarantine(f.ctx))
	if row, file := f.quarantineHas(layerOf(m)); row || file {
		t.Errorf("what nothing is made of: row %v, file %v", row, file)
	}
	if _, err := os.Stat(note); err != nil {
		t.Errorf("somebody's file: %v", err)
	}
}

// TestStore_Quarantine_ofAPulledManifest: pull-through fetches the blob again, as it does
// one that it never had.
func TestStore_Quarantine_ofAPulledManifest(t *testing.T) {
	f := newFixture(t)
	config, layer := descriptor(ocispec.MediaTypeImageConfig, []byte("{}")), descriptor("x/y", []byte("layer"))
	m, err := f.Manifests.PutPulled(f.ctx, "lazy", manifestOf(config, layer), PutOptions{Tags: []string{"v1"}})
	f.must(err)
	f.blob("lazy", "layer")
	f.flip(layer.Digest)
	f.scrub(layer.Digest)
	if got := f.images(layer.Digest); !slices.Equal(got, []string{"lazy:v1"}) {
		t.Errorf("images %q of %s", got, m.Digest)
	}
	f.blob("lazy", "layer")
	f.mustHave("lazy", "v1")
}
