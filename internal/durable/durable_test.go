package durable

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestWriteFile_replacesTheContentAndLeavesNoTemporaryFile(t *testing.T) {
	for name, write := range map[string]func(string, *os.File, []byte) error{"WriteFile": WriteFile, "Replace": Replace} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			must(t, os.WriteFile(path, []byte("old, and longer"), 0o644))
			old, err := os.Open(path)
			must(t, err)
			defer old.Close()

			must(t, write(path, temporary(t, path), []byte("new")))

			has(t, dir, "file", "new")
			if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
				t.Errorf("got %v, %v, want the mode of the temporary file", info.Mode(), err)
			}
			kept := make([]byte, 32)
			if n, err := old.Read(kept); err != nil || string(kept[:n]) != "old, and longer" {
				t.Errorf("a reader of the old file got %q, %v", kept[:n], err)
			}
		})
	}
}

func TestReplace_failureLeavesTheOldFileAlone(t *testing.T) {
	for name, tc := range map[string]struct {
		tmp  func(t *testing.T, path string) *os.File
		path string // below the directory of the file
	}{
		"the write fails": {tmp: func(t *testing.T, path string) *os.File {
			must(t, temporary(t, path).Close())
			f, err := os.Open(path + ".tmp") // only for reading
			must(t, err)
			return f
		}, path: "file"},
		"the sync or close fails": {tmp: func(t *testing.T, path string) *os.File {
			f := temporary(t, path)
			must(t, f.Close())
			return f
		}, path: "file"},
		"the rename fails": {tmp: temporary, path: "missing/file"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "file")
			must(t, os.WriteFile(path, []byte("old"), 0o600))
			tmp := tc.tmp(t, path)
			if err := WriteFile(filepath.Join(dir, tc.path), tmp, []byte("new")); err == nil {
				t.Error("no error")
			}
			has(t, dir, "file", "old")
			if err := tmp.Close(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("the temporary file is still open: %v", err)
			}
		})
	}
}

func TestFinish_keepsTheErrorOfTheWriteAndCloses(t *testing.T) {
	failed := errors.New("failed")
	for _, want := range []error{nil, failed} {
		f := temporary(t, filepath.Join(t.TempDir(), "file"))
		if err := Finish(f, want); !errors.Is(err, want) {
			t.Errorf("got %v, want %v", err, want)
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("after %v: still open: %v", want, err)
		}
	}
}

func TestSync_directory(t *testing.T) {
	dir := t.TempDir()
	must(t, SyncDir(dir))
	root, err := os.OpenRoot(dir)
	must(t, err)
	must(t, SyncRoot(root))
	must(t, root.Close())
	if err := SyncRoot(root); !errors.Is(err, os.ErrClosed) {
		t.Errorf("a closed root: %v", err)
	}
	if err := SyncDir(filepath.Join(dir, "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

func TestLock_excludesASecondOpenFile(t *testing.T) {
	for _, tc := range []struct {
		name          string
		first, second int
		want          error
	}{
		{"two exclusive", Exclusive, Exclusive, ErrLocked},
		{"shared, then exclusive", Shared, Exclusive, ErrLocked},
		{"exclusive, then shared", Exclusive, Shared, ErrLocked},
		{"two shared", Shared, Shared, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			first, second := open(t, dir), open(t, dir)
			must(t, Lock(first, tc.first))
			if err := Lock(second, tc.second); !errors.Is(err, tc.want) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			must(t, first.Close())
			must(t, Lock(second, tc.second)) // the lock goes with the file
		})
	}
}

func TestLock_closedFileIsNotLocked(t *testing.T) {
	f := open(t, t.TempDir())
	must(t, f.Close())
	var failed *os.PathError
	if err := Lock(f, Exclusive); errors.Is(err, ErrLocked) || !errors.As(err, &failed) {
		t.Errorf("got %v, want an *os.PathError", err)
	}
}

func temporary(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	must(t, err)
	return f
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// has fails unless the directory has this one file with this content.
func has(t *testing.T, dir, name, content string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 1 || entries[0].Name() != name {
		t.Errorf("the directory has %v, want %s alone", entries, name)
	}
	if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != content {
		t.Errorf("%s has %q, %v, want %q", name, got, err, content)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
