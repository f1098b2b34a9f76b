package home

import (
	"errors"
	"os/user"
	"path/filepath"
	"testing"
)

func TestDir(t *testing.T) {
	t.Run("HOME counts", func(t *testing.T) {
		t.Setenv("HOME", "/somewhere")
		if dir, err := Dir(); err != nil || dir != "/somewhere" {
			t.Errorf("Dir is %q, %v", dir, err)
		}
	})
	t.Run("the user database counts without HOME", func(t *testing.T) {
		u, err := user.Current()
		if err != nil {
			t.Skip("this user is in no database: ", err)
		}
		t.Setenv("HOME", "")
		if dir, err := Dir(); err != nil || dir != u.HomeDir {
			t.Errorf("Dir is %q, %v, want %q", dir, err, u.HomeDir)
		}
	})
}

func TestExpand(t *testing.T) {
	t.Setenv("HOME", "/somewhere")
	root, err := user.Lookup("root")
	if err != nil {
		t.Skip(err)
	}
	for path, want := range map[string]string{
		"": "", "a/~": "a/~", "/a": "/a", "./~": "./~",
		"~": "/somewhere", "~/": "/somewhere", "~/a/b": "/somewhere/a/b",
		"~root": root.HomeDir, "~root/a": filepath.Join(root.HomeDir, "a"),
	} {
		if got, err := Expand(path); err != nil || got != want {
			t.Errorf("Expand(%q) is %q, %v, want %q", path, got, err, want)
		}
	}
	if got, err := Expand("~no-such-user/a"); !errors.Is(err, ErrNone) {
		t.Errorf("an unknown user gives %q, %v", got, err)
	}
}
