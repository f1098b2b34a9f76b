package relocate_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/relocate"
)

var ours = []string{"sha256", "uploads", "a.db", "a.db-shm"}

func newTree(t *testing.T) (tree *relocate.Tree, from, to string) {
	t.Helper()
	from, to = filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	must(t, os.Mkdir(from, 0o700))
	must(t, os.Mkdir(to, 0o700))
	return &relocate.Tree{Host: host.Local(), From: from, To: to, Ours: func(names []string) []string {
		return slices.DeleteFunc(slices.Clone(names), func(n string) bool { return !slices.Contains(ours, n) })
	}}, from, to
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func write(t *testing.T, path string, body []byte) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(path), 0o750))
	must(t, os.WriteFile(path, body, 0o600))
}

func blob(t *testing.T, dir string, size int) (path string) {
	t.Helper()
	body := make([]byte, size)
	_, _ = rand.Read(body)
	sum := sha256.Sum256(body)
	name := hex.EncodeToString(sum[:])
	name = filepath.Join("sha256", name[:2], name)
	write(t, filepath.Join(dir, name), body)
	return name
}

// tree lists what moves, with content, mode and time of change.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	must(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dir, path)
		if err != nil || name == "." || strings.HasSuffix(name, "-shm") || strings.HasPrefix(name, "mine") {
			return err
		}
		info, err := d.Info()
		must(t, err)
		what := info.Mode().String()
		if d.Type().IsRegular() {
			body, err := os.ReadFile(path)
			must(t, err)
			sum := sha256.Sum256(body)
			what += info.ModTime().String() + hex.EncodeToString(sum[:])
		}
		all[name] = what
		return nil
	}))
	return all
}

func same(t *testing.T, from, to string) {
	t.Helper()
	a, b := tree(t, from), tree(t, to)
	for name := range a {
		if a[name] != b[name] {
			t.Errorf("%s is %s and not %s", name, b[name], a[name])
		}
	}
	for name := range b {
		if _, ok := a[name]; !ok {
			t.Errorf("%s is too many", name)
		}
	}
}

// A store that changes between two copies is the same after the second, and what was not changed is not
// read again.
func TestTree_Copy(t *testing.T) {
	c, from, to := newTree(t)
	first, gone := blob(t, from, 3<<20), blob(t, from, 10)
	db := bytes.Repeat([]byte("page"), 1<<20)
	write(t, filepath.Join(from, "a.db"), db)
	write(t, filepath.Join(from, "a.db-shm"), db)
	write(t, filepath.Join(from, "uploads", "u"), []byte("half"))
	write(t, filepath.Join(from, "mine"), []byte("the user's"))
	must(t, os.Symlink("a", filepath.Join(from, "uploads", "link")))
	must(t, c.Copy(t.Context()))
	same(t, from, to)
	if _, err := os.Lstat(filepath.Join(to, "mine")); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it has copied what is not ours")
	}
	write(t, filepath.Join(to, "mine-too"), nil)
	past := unix.NsecToTimeval(time.Now().Add(-time.Hour).UnixNano())
	must(t, unix.Utimes(filepath.Join(from, first), []unix.Timeval{past, past}))
	time.Sleep(1100 * time.Millisecond) // for the times of change to have passed
	must(t, c.Copy(t.Context()))

	before, err := os.Stat(filepath.Join(to, first))
	must(t, err)
	must(t, os.Remove(filepath.Join(from, gone)))
	second := blob(t, from, 100)
	copy(db[1<<20:], "another page")
	write(t, filepath.Join(from, "a.db"), db[:3<<20])
	write(t, filepath.Join(from, "uploads", "u"), []byte("half and more"))
	var last relocate.Size
	c.Progress = func(s relocate.Size) { last = s }
	must(t, c.Copy(t.Context()))
	same(t, from, to)
	after, err := os.Stat(filepath.Join(to, first))
	if err != nil || !os.SameFile(before, after) {
		t.Error("it has copied anew what was the same")
	}
	if size, err := c.Measure(t.Context(), false); err != nil || last.Bytes != size.Bytes {
		t.Errorf("it went through %d of %d bytes: %v", last.Bytes, size.Bytes, err)
	}
	must(t, c.Remove(t.Context(), from))
	if _, err := os.Stat(filepath.Join(from, second)); err == nil {
		t.Error("it is still there")
	}
	for _, mine := range []string{filepath.Join(from, "mine"), filepath.Join(to, "mine-too")} {
		if _, err := os.Stat(mine); err != nil {
			t.Error(err)
		}
	}
}

// What a copy of another process has left is compared, not trusted.
func TestTree_Copy_goesOn(t *testing.T) {
	c, from, to := newTree(t)
	whole, torn, short := blob(t, from, 100), blob(t, from, 2<<20), blob(t, from, 2<<20)
	must(t, c.Copy(t.Context()))
	kept, err := os.Stat(filepath.Join(to, whole))
	must(t, err)
	write(t, filepath.Join(to, torn), make([]byte, 2<<20)) // a power cut: the name and no bytes
	write(t, filepath.Join(to, short), nil)
	write(t, filepath.Join(to, filepath.Dir(short), ".moving-x"), []byte("half"))
	write(t, filepath.Join(to, ".moving-a.db"), []byte("half"))
	again := &relocate.Tree{Host: c.Host, From: from, To: to, Ours: c.Ours}
	must(t, again.Copy(t.Context()))
	same(t, from, to)
	if now, err := os.Stat(filepath.Join(to, whole)); err != nil || !os.SameFile(kept, now) {
		t.Error("it has copied anew what was whole")
	}
}

func TestTree_Copy_damaged(t *testing.T) {
	c, from, to := newTree(t)
	name := blob(t, from, 100)
	write(t, filepath.Join(from, name), []byte("not that"))
	must(t, c.Copy(t.Context()))
	same(t, from, to)
	if got := c.Damaged(); len(got) != 1 || got[0] != name {
		t.Errorf("damaged: %q", got)
	}
	must(t, unix.Mkfifo(filepath.Join(from, "sha256", "pipe"), 0o600))
	if err := c.Copy(t.Context()); err == nil || !strings.Contains(err.Error(), "neither a file") {
		t.Errorf("with a pipe: %v", err)
	}
}

func TestTree_Rename(t *testing.T) {
	c, from, to := newTree(t)
	name := blob(t, from, 100)
	write(t, filepath.Join(from, "a.db"), []byte("rows"))
	write(t, filepath.Join(from, "mine"), nil)
	before := tree(t, from)
	must(t, c.Rename())
	if names, err := os.ReadDir(from); err != nil || len(names) != 1 {
		t.Errorf("%v, %v", names, err)
	}
	if _, err := os.Stat(filepath.Join(to, name)); err != nil {
		t.Error(err)
	}
	must(t, os.Rename(filepath.Join(to, "a.db"), filepath.Join(from, "a.db"))) // as one that was killed
	for _, want := range []bool{true, false} {
		if moved, err := c.RenameBack(); moved != want || err != nil {
			t.Errorf("%v, %v", moved, err)
		}
	}
	after := tree(t, from)
	for name := range before {
		if before[name] != after[name] {
			t.Errorf("%s is %s", name, after[name])
		}
	}
	write(t, filepath.Join(to, "a.db"), []byte("another"))
	if err := c.Rename(); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over another: %v", err)
	}
}
