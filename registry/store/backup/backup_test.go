package backup

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

func TestCreate_andRestore(t *testing.T) {
	for name, dest := range map[string]func(t *testing.T) string{
		"directory": func(t *testing.T) string { return filepath.Join(t.TempDir(), "made", "for", "it") },
		"tar":       func(t *testing.T) string { return filepath.Join(t.TempDir(), "backup.tar") },
		"copy":      otherFileSystem,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.variety()
			f.must(f.Users.Put(f.ctx, store.User{Name: "init", Role: "admin", PasswordHash: []byte("hash")}))
			to := dest(t)
			var calls int64
			report := f.backup(to, Options{Progress: func(_ Report, of integrity.StoreSize) { calls++ }})
			stats, err := f.Stats(f.ctx)
			f.must(err)
			if report.Blobs != stats.Blobs || report.BlobBytes != stats.BlobBytes || report.DatabaseBytes == 0 || calls != stats.Blobs {
				t.Errorf("report %+v of %+v after %d calls of progress", report, stats, calls)
			}
			if name != "directory" && report.CopiedBytes != stats.BlobBytes {
				t.Errorf("copied %+v", report)
			}
			g := restored(t, to)
			again, err := g.Stats(g.ctx)
			g.must(err)
			if again != stats {
				t.Errorf("restored %+v of %+v", again, stats)
			}
			g.mustHave("team/app", "latest")
			was, err := f.Restored(f.ctx)
			f.must(err)
			is, err := g.Restored(g.ctx)
			g.must(err)
			if !was.IsZero() || time.Since(is) > time.Minute {
				t.Errorf("it was restored on %v, and its original on %v", is, was)
			}
			g.pushImage("team/app", "after", "after") // and it goes on
		})
	}
}

func TestCreate_isTheOwnersAlone(t *testing.T) {
	f := newFixture(t)
	f.variety()
	dir, file := filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "b.tar")
	f.backup(dir, Options{})
	f.backup(file, Options{})
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, databaseName): 0o600, file: 0o600} {
		info, err := os.Stat(path)
		f.must(err)
		if info.Mode().Perm() != want {
			t.Errorf("%s has mode %v", path, info.Mode())
		}
	}
	for _, d := range []string{dir, filepath.Dir(file)} { // nothing half done is left
		entries, err := filepath.Glob(filepath.Join(d, "*.tmp*"))
		if err != nil || len(entries) > 0 {
			t.Errorf("left behind: %v, %v", entries, err)
		}
	}
}

func TestCreate_incremental(t *testing.T) {
	for name, dest := range map[string]func(t *testing.T) string{"link": func(t *testing.T) string { return t.TempDir() }, "copy": otherFileSystem} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			old := f.pushImage("app", "old", "v1")
			to := dest(t)
			if first := f.backup(to, Options{}); first.Kept != 0 || first.Linked+first.Cloned+first.Copied != 2 {
				t.Errorf("first %+v", first)
			}
			f.pushImage("app", "new", "v2")
			f.must(os.Truncate(filepath.Join(to, blobfile.Name(layerOf(old))), 1)) // damage in the backup...
			if name == "link" {
				f.place(layerOf(old), "layer of old") // ...which was that of the storage too, where it was linked
			}
			second := f.backup(to, Options{})
			if second.Kept != 1 || second.Linked+second.Cloned+second.Copied != 3 || second.Pruned != 0 {
				t.Errorf("second %+v", second)
			}
			restored(t, to).mustHave("app", "v1")

			f.must(f.Manifests.Delete(f.ctx, "app", old.Digest))
			f.collect(f.clock.add(48 * time.Hour))
			third := f.backup(to, Options{Prune: true})
			if third.Kept != 2 || third.Pruned != 2 {
				t.Errorf("third %+v", third)
			}
			restored(t, to).mustHave("app", "v2")
		})
	}
}

// TestCreate_ofWhatWasHealed: a damaged blob of the right size that was backed up is not kept once
// the storage has the whole one.
func TestCreate_ofWhatWasHealed(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	to := t.TempDir()
	f.flip(layerOf(m))
	f.backup(to, Options{}) // a link is not read, so it does not notice
	f.place(layerOf(m), "layer of app")
	f.must(os.Chtimes(f.path(layerOf(m)), f.clock.add(time.Hour), f.clock.now())) // and not in the same tick of the file system's clock
	f.backup(to, Options{})
	restored(t, to).mustHave("app", "v1")
}

func TestCreate_collectionLeavesItsFiles(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.pushImage("app", "other", "v2")
	to := otherFileSystem(t)
	collected := false
	f.backup(to, Options{Progress: func(Report, integrity.StoreSize) {
		if collected {
			return
		}
		collected = true // after the first blob was copied, everything goes
		f.must(f.Manifests.Delete(f.ctx, "app", m.Digest))
		f.collect(f.clock.add(48 * time.Hour))
		if _, err := f.Blobs.Stat(f.ctx, "app", layerOf(m)); !errors.Is(err, store.ErrNotFound) {
			t.Errorf("the blob is still served: %v", err)
		}
	}})
	restored(t, to).mustHave("app", "v1")
	f.collect(f.clock.add(48 * time.Hour))
	if _, err := os.Stat(f.path(layerOf(m))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the collection after the backup leaves the file: %v", err)
	}
	if got := f.verified(); !got.Clean() || got.ExtraFiles != 0 {
		t.Errorf("afterwards: %+v", got)
	}
}

func TestCreate_interrupted(t *testing.T) {
	for _, name := range []string{"backup", "backup.tar"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pushImage("app", "old", "v1")
			to := filepath.Join(t.TempDir(), name)
			f.backup(to, Options{})
			f.pushImage("app", "new", "v2")
			for stop := range 4 { // at each of the four blobs
				ctx, cancel := context.WithCancel(f.ctx)
				seen := 0
				_, err := f.create(ctx, to, Options{Prune: true, Progress: func(Report, integrity.StoreSize) {
					if seen++; seen > stop {
						cancel()
					}
				}})
				cancel()
				if !errors.Is(err, context.Canceled) {
					t.Fatalf("stopped at blob %d: %v", stop, err)
				}
				g := restoredOpen(t, to)
				g.mustHave("app", "v1")
				if _, err := g.Manifests.ByTag(g.ctx, "app", "v2"); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("stopped at blob %d, the new image is there: %v", stop, err)
				}
				g.close()
			}
			ctx, cancel := context.WithCancel(f.ctx)
			cancel()
			if _, err := f.create(ctx, to, Options{}); !errors.Is(err, context.Canceled) {
				t.Errorf("stopped before the snapshot: %v", err)
			}
			f.backup(to, Options{})
			restored(t, to).mustHave("app", "v2")
		})
	}
}

func TestCreate_damageIsToldAndTheRestIsThere(t *testing.T) {
	for name, damage := range map[string]func(f *fixture, d digest.Digest){
		"missing":      func(f *fixture, d digest.Digest) { f.must(os.Remove(f.path(d))) },
		"cut short":    func(f *fixture, d digest.Digest) { f.must(os.Truncate(f.path(d), 2)) },
		"flipped":      (*fixture).flip,
		"a bad sector": (*fixture).unreadable,
	} {
		for _, kind := range []string{"", "backup.tar"} {
			t.Run(name+" "+kind, func(t *testing.T) {
				f := newFixture(t)
				bad := f.pushImage("app", "bad", "bad")
				f.pushImage("app", "good", "good")
				damage(f, layerOf(bad))
				to := filepath.Join(otherFileSystem(t), kind)
				report, err := f.create(f.ctx, to, Options{})
				var damaged *DamagedError
				if !errors.As(err, &damaged) || damaged.Hint() == "" || !strings.Contains(err.Error(), layerOf(bad).String()) || report.Damaged != 1 {
					t.Fatalf("%v, %+v", err, report)
				}
				g := emptyFixture(t)
				err = g.restore(g.ctx, to)
				if !errors.As(err, &damaged) || damaged.Hint() == "" || len(damaged.Digests) != 1 || damaged.Digests[0] != layerOf(bad) {
					t.Fatalf("restoring it: %v", err)
				}
				if _, err := os.Stat(filepath.Join(g.dir, "appliance.db")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a damaged restore has put its database in place: %v", err)
				}
				part, err := Restore(g.ctx, to, RestoreOptions{Database: g.database(), Storage: g.storage(), Partial: true})
				g.must(err)
				if part.Damaged != 1 || part.Kept != 3 || part.Copied != 0 {
					t.Errorf("partially, and with what is there already: %+v", part)
				}
				g.reopen()
				g.mustHave("app", "good")
				if _, err := g.Blobs.Open(g.ctx, "app", layerOf(bad)); !errors.Is(err, store.ErrNotFound) {
					t.Errorf("the damaged blob: %v", err)
				}
				g.pushImage("app", "bad", "bad") // pushed again, it is there
				g.mustHave("app", "bad")
				g.close()
			})
		}
	}
}

func TestCreate_refuses(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app")
	busy := t.TempDir()
	root, err := os.OpenRoot(busy)
	f.must(err)
	defer root.Close()
	held, err := lockBackup(root, 2)
	f.must(err)
	defer held.Close()
	directory := filepath.Join(t.TempDir(), "dir.tar")
	f.must(os.Mkdir(directory, 0o700))
	for name, dest := range map[string]string{
		"the directory of the database":    f.dir,
		"the storage":                      f.storage(),
		"a directory in the storage":       filepath.Join(f.storage(), "uploads", "x"),
		"a file in the storage":            filepath.Join(f.storage(), "uploads", "x.tar"),
		"a directory that is backed up to": busy,
		"a directory for a file":           directory,
	} {
		_, err := f.create(f.ctx, dest, Options{})
		var refused *Error
		if !errors.As(err, &refused) || refused.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.mustBeClean()
	_, err = f.create(f.ctx, "/dev/full/backup", Options{})
	if err == nil {
		t.Error("a path through a file is accepted")
	}
}
