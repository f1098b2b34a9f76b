package store

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// TestOpen_refusesWhatIsNoFile_SQLite finds FIFOs and directories in the place of what lies
// beside the database.
func TestOpen_refusesWhatIsNoFile_SQLite(t *testing.T) {
	for _, name := range []string{"-wal", "-shm", "-journal", ".lock", ".reserve"} {
		for what, put := range map[string]func(string) error{
			"a FIFO":      func(path string) error { return unix.Mkfifo(path, 0o600) },
			"a directory": func(path string) error { return os.Mkdir(path, 0o700) },
			"a device":    func(path string) error { return os.Symlink("/dev/zero", path) },
		} {
			t.Run(what+" as "+name, func(t *testing.T) {
				path := filepath.Join(t.TempDir(), "appliance.db")
				o := Options{Database: path, Storage: t.TempDir()}
				s, err := Open(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				if err := errors.Join(os.RemoveAll(path+name), put(path+name)); err != nil {
					t.Fatal(err)
				}
				s, err = Open(t.Context(), o)
				if err == nil || !strings.Contains(err.Error(), path+name+" is not a regular file") || hint.Of(err) == "" {
					t.Errorf("got %v", err)
				}
				if err == nil {
					_ = s.Close()
				}
			})
		}
	}
}

// TestOpen_takesLinksToFiles_SQLite has what lies beside the database be elsewhere, as on a
// disk of its own.
func TestOpen_takesLinksToFiles_SQLite(t *testing.T) {
	dir := t.TempDir()
	o := Options{Database: filepath.Join(dir, "appliance.db"), Storage: t.TempDir()}
	for _, name := range []string{".lock", ".reserve"} {
		there := filepath.Join(dir, "elsewhere"+name)
		if err := errors.Join(os.WriteFile(there, nil, 0o600), os.Symlink(there, o.Database+name)); err != nil {
			t.Fatal(err)
		}
	}
	s, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// newFixtureWith is newFixture for a case of that name, and newFileFixture where it has something in
// the place of a blob that is not a file: no server of S3 has that.
func newFixtureWith(t *testing.T, name string) *fixture {
	t.Helper()
	switch name {
	case "a directory", "a directory for a blob", "a bad sector", "what cannot be opened":
		return newFileFixture(t)
	}
	return newFixture(t)
}

// TestStore_OpenBlob_doesNotWaitForAFIFO finds one in the place of a blob.
func TestStore_OpenBlob_doesNotWaitForAFIFO(t *testing.T) {
	f := newFileFixture(t)
	d := f.blob("app", "content").Digest
	path := f.path(d)
	f.must(os.Remove(path))
	f.must(unix.Mkfifo(path, 0o600))
	if blob, err := f.Blobs.Open(f.ctx, "app", d); err == nil {
		t.Errorf("it is served: %v", blob.Close())
	}
}

// A FIFO among the blobs that are tried before one is quarantined is not waited for.
func TestStore_OpenBlob_doesNotWaitForAFIFOElsewhere(t *testing.T) {
	f := newFileFixture(t)
	lost, other := f.blob("app", "lost").Digest, f.path(f.blob("app", "other").Digest)
	f.must(os.Remove(other))
	f.must(unix.Mkfifo(other, 0o600))
	f.must(os.Remove(f.path(lost)))
	_, err := f.Blobs.Open(f.ctx, "app", lost)
	isNotFound(t, err)
}
