package directory_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/directory"
	"github.com/mirror-appliance/appliance/internal/hint"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func content(text string) []cluster.File {
	return []cluster.File{{Name: "a", Data: []byte(text)}, {Name: "b/secret", Data: []byte("s"), Secret: true},
		{Name: "run.sh", Data: []byte("#!/bin/sh\n"), Executable: true}}
}

func TestWrite_permissions(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "x/y")
	_, err := directory.Write(dir, content("1"), false)
	must(t, err)
	for name, want := range map[string]fs.FileMode{".": 0o700, "a": 0o644, "b/secret": 0o600, "run.sh": 0o755} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has %v, %v", name, info.Mode(), err)
		}
	}
}

// What root writes into another user's directory is that user's, with the directories above it.
func TestWrite_ofRootForAnotherUser(t *testing.T) {
	const user = 65534
	home, want := t.TempDir(), os.Getuid()
	if want == 0 {
		want = user
		must(t, os.Chown(home, user, user))
	}
	for range 2 {
		_, err := directory.Write(filepath.Join(home, "x/y"), content("1"), false)
		must(t, err)
		must(t, filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := e.Info()
			if err == nil && int(info.Sys().(*syscall.Stat_t).Uid) != want {
				t.Errorf("%s is of %d", path, info.Sys().(*syscall.Stat_t).Uid)
			}
			return err
		}))
	}
}

// What this command has made is replaced, and nothing else: neither what a user changed in it.
func TestWrite_replacesItsOwn(t *testing.T) {
	for name, test := range map[string]struct {
		change func(dir string) error
		want   string // of the error; "": it is replaced
	}{
		"as it was":      {func(string) error { return nil }, ""},
		"a file removed": {func(dir string) error { return os.Remove(filepath.Join(dir, "a")) }, ""},
		"a file changed": {func(dir string) error { return os.WriteFile(filepath.Join(dir, "b/secret"), []byte("mine"), 0o600) }, "was changed since it was made: b/secret"},
		"a file added":   {func(dir string) error { return os.WriteFile(filepath.Join(dir, "b/kubeconfig"), nil, 0o600) }, "was changed since it was made: b/kubeconfig"},
		"a link added":   {func(dir string) error { return os.Symlink("/etc", filepath.Join(dir, "etc")) }, "was changed since it was made: etc"},
		"another's":      {func(dir string) error { return os.Remove(filepath.Join(dir, ".cluster-config.json")) }, "was not made by this command"},
		"a broken record": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, ".cluster-config.json"), []byte("{"), 0o600)
		}, "was not made by this command"},
	} {
		t.Run(name, func(t *testing.T) {
			parent := t.TempDir()
			dir := filepath.Join(parent, "made")
			_, err := directory.Write(dir, content("1"), false)
			must(t, err)
			must(t, test.change(dir))
			_, err = directory.Write(dir, content("2"), false)
			if checked := directory.Check(dir); test.want != "" && (checked == nil || checked.Error() != err.Error()) {
				t.Errorf("Check returns %v", checked)
			}
			if test.want == "" {
				must(t, err)
				holds(t, dir, "2")
				alone(t, parent, "made")
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(hint.Of(err), "--force") {
				t.Fatalf("%v; %s", err, hint.Of(err))
			}
			aside, err := directory.Write(dir, content("2"), true)
			must(t, err)
			holds(t, dir, "2")
			holds(t, aside, "1")
			alone(t, parent, "made", filepath.Base(aside))
		})
	}
}

func holds(t *testing.T, dir, want string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "a"))
	if err != nil || string(text) != want {
		t.Errorf("%s has %q, %v", dir, text, err)
	}
}

// alone checks that a directory has nothing else.
func alone(t *testing.T, dir string, names ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != len(names) {
		t.Errorf("%s has %v, want %v", dir, entries, names)
	}
}

// A write that fails leaves what was there, and nothing of its own.
func TestWrite_wholeOrNotAtAll(t *testing.T) {
	parent := t.TempDir()
	dir := filepath.Join(parent, "made")
	_, err := directory.Write(dir, content("1"), false)
	must(t, err)
	for _, name := range []string{"../outside", "/etc/outside", "a/below/a/file"} {
		if _, err := directory.Write(dir, append(content("2"), cluster.File{Name: name}), false); err == nil {
			t.Errorf("%s is written", name)
		}
	}
	holds(t, dir, "1")
	alone(t, parent, "made")
}

func TestWrite_otherThings(t *testing.T) {
	parent := t.TempDir()
	file, empty, link := filepath.Join(parent, "file"), filepath.Join(parent, "empty"), filepath.Join(parent, "link")
	must(t, os.WriteFile(file, nil, 0o600))
	must(t, os.Mkdir(empty, 0o755))
	must(t, os.Symlink(empty, link))
	if _, err := directory.Write(file, content("1"), true); err == nil || !strings.Contains(err.Error(), "is not a directory") {
		t.Errorf("a file: %v", err)
	}
	_, err := directory.Write(link, content("1"), false)
	must(t, err)
	holds(t, empty, "1")
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info, err)
	}
}
