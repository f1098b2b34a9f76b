package backup

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

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

func TestRestore_refuses(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	good, file := t.TempDir(), filepath.Join(t.TempDir(), "backup.tar")
	f.backup(good, Options{})
	f.backup(file, Options{})
	hinted := func(err error) bool {
		var h interface{ Hint() string }
		return errors.As(err, &h) && h.Hint() != ""
	}
	t.Run("a store in use", func(t *testing.T) {
		var locked *database.LockedError
		if err := f.restore(f.ctx, good); !errors.As(err, &locked) {
			t.Errorf("got %v", err)
		}
	})
	t.Run("a store with images", func(t *testing.T) {
		g := newFixture(t)
		g.pushImage("mine", "mine", "v1")
		g.close()
		err := g.restore(g.ctx, good)
		var full *Error
		if !errors.As(err, &full) || !strings.Contains(full.Reason, "has images") || !hinted(err) {
			t.Errorf("got %v", err)
		}
		g.reopen()
		g.mustHave("mine", "v1")
	})
	for name, from := range map[string]string{
		"what is not there":     filepath.Join(good, "nothing"),
		"an empty directory":    t.TempDir(),
		"a file that is no tar": filepath.Join(good, databaseName),
		"a tar in other order":  retar(t, file, func(hs []*tar.Header) { hs[1], hs[2] = hs[2], hs[1] }),
		"a tar without it":      retar(t, file, func(hs []*tar.Header) { hs[0].Name = "other.db" }),
		"a name that leaves it": retar(t, file, func(hs []*tar.Header) { hs[1].Name = "../../" + hs[1].Name }),
		"a damaged database": func() string {
			dir := t.TempDir()
			content, err := os.ReadFile(filepath.Join(good, databaseName))
			f.must(err)
			for i := 4096; i < len(content); i++ {
				content[i] = 0x55
			}
			f.must(os.WriteFile(filepath.Join(dir, databaseName), content, 0o600))
			return dir
		}(),
	} {
		t.Run(name, func(t *testing.T) {
			g := emptyFixture(t)
			var refused *Error
			var damaged *DamagedError // when nothing is asked for after what is out of order
			if err := g.restore(g.ctx, from); !errors.As(err, &refused) && !errors.As(err, &damaged) || !hinted(err) {
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
	f.backup(to, Options{})

	t.Run("a fresh installation", func(t *testing.T) {
		g := newFixture(t)
		g.must(g.Users.Put(g.ctx, store.User{Name: "fresh", Role: "admin"}))
		g.close()
		g.must(g.restore(g.ctx, to))
		g.reopen()
		g.mustHave("app", "v1")
		if cursor, err := g.Integrity().ScrubCursor(g.ctx); err != nil || cursor != "" {
			t.Errorf("the next scrub leaves out what is up to %s, %v", cursor, err)
		}
	})
	t.Run("the WAL of a lost database", func(t *testing.T) {
		g := newFixture(t)
		g.pushImage("other", "other", "v1")
		wal, err := os.ReadFile(g.database() + "-wal")
		g.must(err)
		g.close()
		g.must(os.Remove(g.database()))
		g.must(os.WriteFile(g.database()+"-wal", wal, 0o600))
		g.must(g.restore(g.ctx, to))
		g.reopen()
		g.mustHave("app", "v1")
		g.mustBeClean()
	})
	t.Run("a storage with damage", func(t *testing.T) {
		g := emptyFixture(t)
		m, err := f.Manifests.ByTag(f.ctx, "app", "v1")
		g.must(err)
		g.must(g.restore(g.ctx, to))
		g.reopen()
		g.flip(layerOf(m))
		g.close()
		g.must(os.Remove(g.database()))
		report, err := Restore(g.ctx, to, g.restoreOptions())
		g.must(err)
		if report.Kept != 1 || report.Copied != 1 {
			t.Errorf("report %+v", report)
		}
		g.reopen()
		g.mustBeClean()
		g.close()
	})
}

func TestRestore_interrupted(t *testing.T) {
	f := newFixture(t)
	for i := range 3 {
		f.pushImage("app", fmt.Sprint(i), fmt.Sprint("v", i))
	}
	for _, kind := range []string{"", "backup.tar"} {
		to := filepath.Join(t.TempDir(), kind)
		f.backup(to, Options{})
		g := emptyFixture(t)
		for stop := range 6 {
			ctx, cancel := context.WithCancel(g.ctx)
			_, err := Restore(ctx, to, RestoreOptions{Database: g.database(), Storage: g.storage(), Progress: func(done RestoreReport, _ integrity.StoreSize) {
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
		report, err := Restore(g.ctx, to, g.restoreOptions())
		g.must(err)
		if report.Kept != 6 {
			t.Errorf("what was copied is not used: %+v", report)
		}
		g.reopen()
		g.mustHave("app", "v2")
		g.close()
	}
}

func TestRestore_cutOffTar(t *testing.T) {
	f := newFixture(t)
	f.pushImage("app", "app", "v1")
	to := filepath.Join(t.TempDir(), "backup.tar")
	f.backup(to, Options{})
	info, err := os.Stat(to)
	f.must(err)
	for _, cut := range []int64{1024 + 510, 1024 + 512, 1024 + 1020, 2048} { // into the last blob, and before it
		f.must(os.Truncate(to, info.Size()-cut))
		var damaged *DamagedError
		err := emptyFixture(t).restore(f.ctx, to)
		if !errors.As(err, &damaged) {
			t.Errorf("without the last %d bytes: %v", cut, err)
		}
	}
}
