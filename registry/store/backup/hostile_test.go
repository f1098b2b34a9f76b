package backup

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

// TestCreate_isNotLedAstray is a backup that root makes of a service that was taken over. What lies
// outside of the directories of either side is not read, and not written.
func TestCreate_isNotLedAstray(t *testing.T) {
	for _, c := range []struct {
		name  string
		plant func(f *fixture, layer, outside, dir, file string) // layer is its path
		fails bool
	}{
		{"a blob that is a link", func(f *fixture, layer, outside, _, _ string) {
			f.must(os.Remove(layer))
			f.must(os.Symlink(filepath.Join(outside, filepath.Base(layer)), layer))
		}, true},
		{"a directory of blobs that is a link", func(f *fixture, layer, outside, _, _ string) {
			f.must(os.Rename(filepath.Dir(layer), filepath.Join(f.dir, "away")))
			f.must(os.Symlink(outside, filepath.Dir(layer)))
		}, true},
		{"a blob that is a pipe", func(f *fixture, layer, _, _, _ string) {
			f.must(os.Remove(layer))
			f.must(unix.Mkfifo(layer, 0o600))
		}, true},
		{"a backup whose blobs are elsewhere", func(f *fixture, _, outside, dir, _ string) {
			f.must(os.Symlink(outside, filepath.Join(dir, "sha256")))
		}, false}, // that to a file goes well
		{"a backup whose database is elsewhere", func(f *fixture, _, outside, dir, file string) {
			secret := filepath.Join(outside, "secret")
			for _, link := range []string{filepath.Join(dir, temporaryName), filepath.Join(dir, databaseName), file + ".db.tmp"} {
				f.must(os.Symlink(secret, link))
			}
		}, false},
		{"a file that is written elsewhere", func(f *fixture, _, outside, _, file string) {
			f.must(os.Symlink(filepath.Join(outside, "secret"), file+".tmp"))
		}, false}, // that to a directory goes well
	} {
		t.Run(c.name, func(t *testing.T) {
			f := newFixture(t)
			layer := f.path(layerOf(f.pushImage("app", "app", "v1")))
			to, outside := otherFileSystem(t), t.TempDir()
			dir, file := filepath.Join(to, "backup"), filepath.Join(to, "backup.tar")
			f.must(os.Mkdir(dir, 0o700))
			planted := map[string]string{"secret": "root's own", filepath.Base(layer): "layer of app"}
			for name, content := range planted {
				f.must(os.WriteFile(filepath.Join(outside, name), []byte(content), 0o600))
			}
			c.plant(f, layer, outside, dir, file)
			for _, dest := range []string{dir, file} {
				report, err := f.create(f.ctx, dest, Options{Prune: true})
				if c.fails && (err == nil || report.Copied > 1) { // the configuration
					t.Errorf("to %s: %+v, %v", dest, report, err)
				}
			}
			entries, err := os.ReadDir(outside)
			f.must(err)
			if len(entries) != len(planted) {
				t.Errorf("outside there is %v", entries)
			}
			for name, want := range planted {
				if content, err := os.ReadFile(filepath.Join(outside, name)); string(content) != want {
					t.Errorf("%s outside is %q, %v", name, content, err)
				}
			}
		})
	}
	t.Run("a snapshot that is elsewhere", func(t *testing.T) {
		f := newFixture(t)
		f.pushImage("app", "app", "v1")
		outside := filepath.Join(t.TempDir(), "other.db")
		f.must(os.WriteFile(outside, []byte("root's own"), 0o600))
		f.must(os.Symlink(outside, filepath.Join(f.dir, "link")))
		for _, name := range []string{outside, "link", "../" + filepath.Base(filepath.Dir(outside)) + "/other.db", "."} {
			to := filepath.Join(t.TempDir(), "backup")
			_, err := Create(f.ctx, to, Options{Database: f.database(), Snapshot: name, Storage: f.storage()})
			var refused *Error
			if left, _ := os.ReadDir(to); !errors.As(err, &refused) || len(left) > 0 {
				t.Errorf("%s: %v, and left %v", name, err, left)
			}
		}
	})
}

// TestRestore_isNotLedAstray is a backup that a service could write to: what lies
// outside of it is not read.
func TestRestore_isNotLedAstray(t *testing.T) {
	f := newFixture(t)
	layer := layerOf(f.pushImage("app", "app", "v1"))
	for name, of := range map[string]string{"a blob": blobfile.Name(layer), "the database": databaseName} {
		for kind, replace := range map[string]func(path, outside string) error{
			"a link": func(path, outside string) error {
				return errors.Join(os.Rename(path, outside), os.Symlink(outside, path))
			},
			"a pipe": func(path, _ string) error { return errors.Join(os.Remove(path), unix.Mkfifo(path, 0o600)) },
		} {
			t.Run(name+" that is "+kind, func(t *testing.T) {
				from := t.TempDir()
				f.backup(from, Options{})
				f.must(replace(filepath.Join(from, of), filepath.Join(t.TempDir(), "outside")))
				g := emptyFixture(t)
				err := g.restore(g.ctx, from)
				if _, placed := os.Lstat(filepath.Join(g.dir, "appliance.db")); err == nil || placed == nil {
					t.Errorf("it is restored: %v", err)
				}
			})
		}
	}
}

// TestCreate_linksWhatItOpened, so that a link has the owner and mode of the service's file,
// which is the same file.
func TestCreate_linksWhatItOpened(t *testing.T) {
	f := newFixture(t)
	layer := layerOf(f.pushImage("app", "app", "v1"))
	to := t.TempDir()
	report := f.backup(to, Options{})
	if report.Cloned > 0 {
		t.Skip("this file system clones")
	}
	theirs, err := os.Lstat(f.path(layer))
	f.must(err)
	ours, err := os.Lstat(filepath.Join(to, blobfile.Name(layer)))
	f.must(err)
	if report.Linked != 2 || !os.SameFile(theirs, ours) {
		t.Errorf("%+v, %v is not %v", report, ours, theirs)
	}
}

// TestCreate_aBadSector is met while a blob is copied: it is damage of this one, and no error.
func TestCreate_aBadSector(t *testing.T) {
	memory, err := os.Open("/proc/self/mem") // of which the first page cannot be read
	if err != nil {
		t.Skip(err)
	}
	defer memory.Close()
	damage, err := pour(t.Context(), blob{digest.FromString("x"), 1}, memory, io.Discard, throttle.New(0), func(int64) {})
	if err != nil || !strings.Contains(damage, "input/output error") {
		t.Errorf("damage %q, %v", damage, err)
	}
}

func TestCreate_saysWhatToDo(t *testing.T) {
	for err, want := range map[error]string{
		unwritable("/backup", syscall.ENOSPC):                "free space",
		unwritable("/backup", syscall.EDQUOT):                "free space",
		unwritable("/backup", syscall.EROFS):                 "writable",
		unwritable("/backup", syscall.EFBIG):                 "FAT",
		unwritable("/backup", syscall.EACCES):                map[bool]string{true: "root_squash", false: "may write"}[os.Geteuid() == 0],
		unreadable("/storage", syscall.EACCES):               "as root",
		unreadable("/db/snapshot", syscall.ENOENT):           "config.yaml",
		unwritable("/b", unreadable("/s", fs.ErrPermission)): "as root",
	} {
		var hinted interface{ Hint() string }
		if !errors.As(err, &hinted) || !strings.Contains(hinted.Hint(), want) {
			t.Errorf("%v: the hint does not say %q", err, want)
		}
	}
	if err := unwritable("/backup", syscall.EIO); !errors.Is(err, syscall.EIO) || errors.As(err, new(*Error)) {
		t.Errorf("what nobody knows a remedy for became %v", err)
	}
}

// TestCreate_tellsOfLargeBlobs, which may take longer than people wait for a word.
func TestCreate_tellsOfLargeBlobs(t *testing.T) {
	f := newFixture(t)
	const size = 2*progressBytes + 1
	u, err := f.Uploads.New(f.ctx, "app")
	f.must(err)
	content := make([]byte, size)
	_, err = u.Write(content)
	f.must(err)
	_, err = u.Commit(f.ctx, digest.FromBytes(content))
	f.must(err)
	want := []int64{progressBytes, 2 * progressBytes, size}
	to := otherFileSystem(t)
	var told []int64
	f.backup(to, Options{Progress: func(done Report, _ integrity.StoreSize) { told = append(told, done.BlobBytes) }})
	if !slices.Equal(told, want) {
		t.Errorf("a backup tells of %v bytes", told)
	}
	told = nil
	g := emptyFixture(t)
	_, err = Restore(g.ctx, to, RestoreOptions{Database: g.database(), Storage: g.storage(), Progress: func(done RestoreReport, _ integrity.StoreSize) { told = append(told, done.BlobBytes) }})
	g.must(err)
	if !slices.Equal(told, append([]int64{0}, want...)) { // the first while it checks the database
		t.Errorf("a restore tells of %v bytes", told)
	}
}
