package store

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// Backup makes a snapshot and backs it up.
func (f *fixture) Backup(ctx context.Context, dest string, o BackupOptions) (r BackupReport, err error) {
	f.t.Helper()
	snapshot, err := f.Snapshot(ctx)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, snapshot.Release()) }()
	o.Database, o.Snapshot, o.Storage = f.database, snapshot.Name, f.storage()
	return Backup(ctx, dest, o)
}

func (f *fixture) backup(dest string, o BackupOptions) BackupReport {
	f.t.Helper()
	r, err := f.Backup(f.ctx, dest, o)
	f.must(err)
	return r
}

// otherFileSystem is a directory that no file of the fixture can be linked to.
func otherFileSystem(t *testing.T) string {
	t.Helper()
	var ours, theirs unix.Stat_t
	if err := unix.Stat(t.TempDir(), &ours); err != nil {
		t.Fatal(err)
	}
	for _, in := range []string{"/dev/shm", "/var/tmp"} {
		if err := unix.Stat(in, &theirs); err != nil || theirs.Dev == ours.Dev {
			continue
		}
		dir, err := os.MkdirTemp(in, "backup")
		if err != nil {
			continue
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(dir); err != nil {
				t.Error(err)
			}
		})
		return dir
	}
	t.Skip("there is no second file system")
	return ""
}

// restored opens what was restored from a backup to a new directory, after it has been verified.
func restored(t *testing.T, from string) *fixture {
	t.Helper()
	g := restoredOpen(t, from)
	t.Cleanup(func() {
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	if r := g.verified(VerifyOptions{Content: true}); !r.Clean() || r.ExtraFiles != 0 {
		t.Errorf("restored with %+v", r)
	}
	return g
}

// restoredOpen opens what was restored from a backup, for a test that closes it itself.
func restoredOpen(t *testing.T, from string) *fixture {
	t.Helper()
	g := &fixture{t: t, ctx: context.Background(), clock: &clock{t: time.Now()}, dir: t.TempDir()}
	g.must(restoreTo(g.ctx, from, g.options()))
	g.reopen()
	return g
}

func (f *fixture) options() Options {
	return Options{Database: filepath.Join(f.dir, "appliance.db"), Storage: filepath.Join(f.dir, "storage"), Now: f.clock.now}
}

func (f *fixture) mustHave(repo, tag string) {
	f.t.Helper()
	m, err := f.ManifestByTag(f.ctx, repo, tag)
	f.must(err)
	b, err := f.OpenBlob(f.ctx, repo, layerOf(m))
	f.must(err)
	defer b.Close()
	content, err := io.ReadAll(b)
	if err != nil || digest.FromBytes(content) != layerOf(m) {
		f.t.Errorf("layer of %s:%s: %q, %v", repo, tag, content, err)
	}
}

// restoreTo is Restore for who needs no report.
func restoreTo(ctx context.Context, from string, o Options) error {
	_, err := Restore(ctx, from, RestoreOptions{Options: o})
	return err
}

func TestStore_Backup_andRestore(t *testing.T) {
	for name, dest := range map[string]func(t *testing.T) string{
		"directory": func(t *testing.T) string { return filepath.Join(t.TempDir(), "made", "for", "it") },
		"tar":       func(t *testing.T) string { return filepath.Join(t.TempDir(), "backup.tar") },
		"copy":      otherFileSystem,
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.variety()
			f.must(f.PutUser(f.ctx, User{Name: "init", Role: "admin", PasswordHash: []byte("hash")}))
			to := dest(t)
			var calls int64
			report := f.backup(to, BackupOptions{Progress: func(_ BackupReport, of StoreSize) { calls++ }})
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
			g.pushImage("team/app", "after", "after") // and it goes on
		})
	}
}

func TestStore_Backup_isTheOwnersAlone(t *testing.T) {
	f := newFixture(t)
	f.variety()
	dir, file := filepath.Join(t.TempDir(), "b"), filepath.Join(t.TempDir(), "b.tar")
	f.backup(dir, BackupOptions{})
	f.backup(file, BackupOptions{})
	for path, want := range map[string]fs.FileMode{dir: 0o700, filepath.Join(dir, backupDatabase): 0o600, file: 0o600} {
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

func TestStore_Backup_incremental(t *testing.T) {
	for name, dest := range map[string]func(t *testing.T) string{"link": func(t *testing.T) string { return t.TempDir() }, "copy": otherFileSystem} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			old := f.pushImage("app", "old", "v1")
			to := dest(t)
			if first := f.backup(to, BackupOptions{}); first.Kept != 0 || first.Linked+first.Cloned+first.Copied != 2 {
				t.Errorf("first %+v", first)
			}
			f.pushImage("app", "new", "v2")
			f.must(os.Truncate(filepath.Join(to, blobfile.Name(layerOf(old))), 1)) // damage in the backup...
			if name == "link" {
				f.place(layerOf(old), "layer of old") // ...which was that of the storage too, where it was linked
			}
			second := f.backup(to, BackupOptions{})
			if second.Kept != 1 || second.Linked+second.Cloned+second.Copied != 3 || second.Pruned != 0 {
				t.Errorf("second %+v", second)
			}
			restored(t, to).mustHave("app", "v1")

			f.must(f.DeleteManifest(f.ctx, "app", old.Digest))
			f.collect(f.clock.add(48 * time.Hour))
			third := f.backup(to, BackupOptions{Prune: true})
			if third.Kept != 2 || third.Pruned != 2 {
				t.Errorf("third %+v", third)
			}
			restored(t, to).mustHave("app", "v2")
		})
	}
}

// place replaces the file of a blob, as a push does.
func (f *fixture) place(d digest.Digest, content string) {
	f.t.Helper()
	f.must(f.files.Blob(d).Replace([]byte(content)))
}

// TestStore_Backup_ofWhatWasHealed: a damaged blob of the right size that was backed up is not kept once
// the storage has the whole one.
func TestStore_Backup_ofWhatWasHealed(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	to := t.TempDir()
	f.flip(layerOf(m))
	f.backup(to, BackupOptions{}) // a link is not read, so it does not notice
	f.place(layerOf(m), "layer of app")
	f.must(f.touch(layerOf(m), f.clock.now().Add(time.Hour))) // and not in the same tick of the file system's clock
	f.backup(to, BackupOptions{})
	restored(t, to).mustHave("app", "v1")
}

func TestStore_Backup_collectionLeavesItsFiles(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.pushImage("app", "other", "v2")
	to := otherFileSystem(t)
	collected := false
	f.backup(to, BackupOptions{Progress: func(BackupReport, StoreSize) {
		if collected {
			return
		}
		collected = true // after the first blob was copied, everything goes
		f.must(f.DeleteManifest(f.ctx, "app", m.Digest))
		f.collect(f.clock.add(48 * time.Hour))
		if _, err := f.StatBlob(f.ctx, "app", layerOf(m)); !errors.Is(err, ErrNotFound) {
			t.Errorf("the blob is still served: %v", err)
		}
	}})
	restored(t, to).mustHave("app", "v1")
	f.collect(f.clock.add(48 * time.Hour))
	if _, err := os.Stat(f.path(layerOf(m))); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the collection after the backup leaves the file: %v", err)
	}
	if got := f.verified(VerifyOptions{Content: true}); !got.Clean() || got.ExtraFiles != 0 {
		t.Errorf("afterwards: %+v", got)
	}
}

func TestStore_Backup_interrupted(t *testing.T) {
	for _, name := range []string{"backup", "backup.tar"} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.pushImage("app", "old", "v1")
			to := filepath.Join(t.TempDir(), name)
			f.backup(to, BackupOptions{})
			f.pushImage("app", "new", "v2")
			for stop := range 4 { // at each of the four blobs
				ctx, cancel := context.WithCancel(f.ctx)
				seen := 0
				_, err := f.Backup(ctx, to, BackupOptions{Prune: true, Progress: func(BackupReport, StoreSize) {
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
				if _, err := g.ManifestByTag(g.ctx, "app", "v2"); !errors.Is(err, ErrNotFound) {
					t.Errorf("stopped at blob %d, the new image is there: %v", stop, err)
				}
				g.must(g.Close())
			}
			ctx, cancel := context.WithCancel(f.ctx)
			cancel()
			if _, err := f.Backup(ctx, to, BackupOptions{}); !errors.Is(err, context.Canceled) {
				t.Errorf("stopped before the snapshot: %v", err)
			}
			f.backup(to, BackupOptions{})
			restored(t, to).mustHave("app", "v2")
		})
	}
}

func TestStore_Backup_damageIsToldAndTheRestIsThere(t *testing.T) {
	for name, damage := range map[string]func(f *fixture, d digest.Digest){
		"missing":      func(f *fixture, d digest.Digest) { f.must(os.Remove(f.path(d))) },
		"cut short":    func(f *fixture, d digest.Digest) { f.truncate(d, 2) },
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
				report, err := f.Backup(f.ctx, to, BackupOptions{})
				var damaged *DamagedError
				if !errors.As(err, &damaged) || damaged.Hint() == "" || !strings.Contains(err.Error(), layerOf(bad).String()) || report.Damaged != 1 {
					t.Fatalf("%v, %+v", err, report)
				}
				g := &fixture{t: t, ctx: f.ctx, clock: f.clock, dir: t.TempDir()}
				err = restoreTo(g.ctx, to, g.options())
				if !errors.As(err, &damaged) || damaged.Hint() == "" || len(damaged.Digests) != 1 || damaged.Digests[0] != layerOf(bad) {
					t.Fatalf("restoring it: %v", err)
				}
				if _, err := os.Stat(filepath.Join(g.dir, "appliance.db")); !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("a damaged restore has put its database in place: %v", err)
				}
				part, err := Restore(g.ctx, to, RestoreOptions{Options: g.options(), Partial: true})
				g.must(err)
				if part.Damaged != 1 || part.Kept != 3 || part.Copied != 0 {
					t.Errorf("partially, and with what is there already: %+v", part)
				}
				g.reopen()
				g.mustHave("app", "good")
				if _, err := g.OpenBlob(g.ctx, "app", layerOf(bad)); !errors.Is(err, ErrNotFound) {
					t.Errorf("the damaged blob: %v", err)
				}
				g.blob("app", "layer of bad") // pushed again, it is there
				g.mustHave("app", "bad")
				g.must(g.Close())
			})
		}
	}
}

func TestStore_Backup_refuses(t *testing.T) {
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
		_, err := f.Backup(f.ctx, dest, BackupOptions{})
		var refused *BackupError
		if !errors.As(err, &refused) || refused.Hint() == "" {
			t.Errorf("%s: %v", name, err)
		}
	}
	f.mustBeClean()
	_, err = f.Backup(f.ctx, "/dev/full/backup", BackupOptions{})
	if err == nil {
		t.Error("a path through a file is accepted")
	}
}

func (f *fixture) mustBeClean() {
	f.t.Helper()
	if got := f.verified(VerifyOptions{Content: true}); !got.Clean() {
		f.t.Errorf("problems: %v", got.Problems)
	}
}

func TestRestore_refuses(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	good, file := t.TempDir(), filepath.Join(t.TempDir(), "backup.tar")
	f.backup(good, BackupOptions{})
	f.backup(file, BackupOptions{})
	hinted := func(err error) bool {
		var h interface{ Hint() string }
		return errors.As(err, &h) && h.Hint() != ""
	}
	t.Run("a store in use", func(t *testing.T) {
		var locked *LockedError
		if err := restoreTo(f.ctx, good, f.options()); !errors.As(err, &locked) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a store with images", func(t *testing.T) {
		g := newFixture(t)
		g.pushImage("mine", "mine", "v1")
		g.must(g.Close())
		err := restoreTo(g.ctx, good, g.options())
		var full *NotEmptyError
		if !errors.As(err, &full) || !hinted(err) {
			t.Errorf("got %v", err)
		}
		g.Store = nil
		g.reopen()
		g.mustHave("mine", "v1")
	})
	for name, from := range map[string]string{
		"what is not there":     filepath.Join(good, "nothing"),
		"an empty directory":    t.TempDir(),
		"a file that is no tar": filepath.Join(good, backupDatabase),
		"a tar in other order":  retar(t, file, func(hs []*tar.Header) { hs[1], hs[2] = hs[2], hs[1] }),
		"a tar without it":      retar(t, file, func(hs []*tar.Header) { hs[0].Name = "other.db" }),
		"a name that leaves it": retar(t, file, func(hs []*tar.Header) { hs[1].Name = "../../" + hs[1].Name }),
		"a damaged database": func() string {
			dir := t.TempDir()
			content, err := os.ReadFile(filepath.Join(good, backupDatabase))
			f.must(err)
			for i := 4096; i < len(content); i++ {
				content[i] = 0x55
			}
			f.must(os.WriteFile(filepath.Join(dir, backupDatabase), content, 0o600))
			return dir
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			g := &fixture{t: t, ctx: f.ctx, clock: f.clock, dir: t.TempDir()}
			var refused *BackupError
			var damaged *DamagedError // when nothing is asked for after what is out of order
			if err := restoreTo(g.ctx, from, g.options()); !errors.As(err, &refused) && !errors.As(err, &damaged) || !hinted(err) {
				t.Errorf("got %v", err)
			}
			if entries, _ := filepath.Glob(filepath.Join(g.dir, "appliance.db*")); len(entries) > 1 { // the lock stays
				t.Errorf("left behind: %v", entries)
			}
		})
	}
}

// retar writes a tar again, with its headers changed. Contents follow their headers.
func retar(t *testing.T, path string, change func([]*tar.Header)) string {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var headers []*tar.Header
	contents := map[*tar.Header][]byte{}
	for r := tar.NewReader(f); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		headers = append(headers, h)
		if contents[h], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
	change(headers)
	to, err := os.Create(filepath.Join(t.TempDir(), "changed.tar"))
	if err != nil {
		t.Fatal(err)
	}
	w := tar.NewWriter(to)
	for _, h := range headers {
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(contents[h]); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(w.Close(), to.Close()); err != nil {
		t.Fatal(err)
	}
	return to.Name()
}

func TestRestore_overWhatIsThere(t *testing.T) {
	f := newFixture(t)
	m := f.pushImage("app", "app", "v1")
	f.must(f.Integrity().SetScrubCursor(f.ctx, layerOf(m)))
	to := t.TempDir()
	f.backup(to, BackupOptions{})

	t.Run("a fresh installation", func(t *testing.T) {
		g := newFixture(t)
		g.must(g.PutUser(g.ctx, User{Name: "fresh", Role: "admin"}))
		g.must(g.Close())
		g.must(restoreTo(g.ctx, to, g.options()))
		g.Store = nil
		g.reopen()
		g.mustHave("app", "v1")
		if cursor, err := g.Integrity().ScrubCursor(g.ctx); err != nil || cursor != "" {
			t.Errorf("the next scrub leaves out what is up to %s, %v", cursor, err)
		}
	})
	t.Run("the WAL of a lost database", func(t *testing.T) {
		g := newFixture(t)
		g.pushImage("other", "other", "v1")
		wal, err := os.ReadFile(g.database + "-wal")
		g.must(err)
		g.must(g.Close())
		g.must(os.Remove(g.database))
		g.must(os.WriteFile(g.database+"-wal", wal, 0o600))
		g.must(restoreTo(g.ctx, to, g.options()))
		g.Store = nil
		g.reopen()
		g.mustHave("app", "v1")
		g.mustBeClean()
	})
	t.Run("a storage with damage", func(t *testing.T) {
		g := &fixture{t: t, ctx: f.ctx, clock: f.clock, dir: t.TempDir()}
		m, err := f.ManifestByTag(f.ctx, "app", "v1")
		g.must(err)
		g.must(restoreTo(g.ctx, to, g.options()))
		g.reopen()
		g.flip(layerOf(m))
		g.must(g.Close())
		g.must(os.Remove(g.database))
		g.Store = nil
		report, err := Restore(g.ctx, to, RestoreOptions{Options: g.options()})
		g.must(err)
		if report.Kept != 1 || report.Copied != 1 {
			t.Errorf("report %+v", report)
		}
		g.reopen()
		g.mustBeClean()
		g.must(g.Close())
	})
}

func TestRestore_interrupted(t *testing.T) {
	f := newFixture(t)
	for i := range 3 {
		f.pushImage("app", fmt.Sprint(i), fmt.Sprint("v", i))
	}
	for _, kind := range []string{"", "backup.tar"} {
		to := filepath.Join(t.TempDir(), kind)
		f.backup(to, BackupOptions{})
		g := &fixture{t: t, ctx: f.ctx, clock: f.clock, dir: t.TempDir()}
		for stop := range 6 {
			ctx, cancel := context.WithCancel(g.ctx)
			_, err := Restore(ctx, to, RestoreOptions{Options: g.options(), Progress: func(done RestoreReport, _ StoreSize) {
				if done.Blobs > int64(stop) {
					cancel()
				}
			}})
			cancel()
			if !errors.Is(err, context.Canceled) {
				t.Fatalf("stopped at blob %d: %v", stop, err)
			}
			if _, err := os.Stat(filepath.Join(g.dir, "appliance.db")); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("stopped at blob %d: the database is in place", stop)
			}
		}
		report, err := Restore(g.ctx, to, RestoreOptions{Options: g.options()})
		g.must(err)
		if report.Kept != 6 {
			t.Errorf("what was copied is not used: %+v", report)
		}
		g.reopen()
		g.mustHave("app", "v2")
		g.must(g.Close())
	}
}

func TestRestore_cutOffTar(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	to := filepath.Join(t.TempDir(), "backup.tar")
	f.backup(to, BackupOptions{})
	info, err := os.Stat(to)
	f.must(err)
	for _, cut := range []int64{1024 + 510, 1024 + 512, 1024 + 1020, 2048} { // into the last blob, and before it
		f.must(os.Truncate(to, info.Size()-cut))
		var damaged *DamagedError
		err := restoreTo(f.ctx, to, Options{Database: filepath.Join(t.TempDir(), "db"), Storage: t.TempDir()})
		if !errors.As(err, &damaged) {
			t.Errorf("without the last %d bytes: %v", cut, err)
		}
	}
}
