package host

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
)

func TestHost_Ways(t *testing.T) {
	root := t.TempDir()
	for _, dir := range []string{"srv", "home/y/q", "mnt"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for link, target := range map[string]string{"srv/x": "/home/y", "srv/up": "../mnt", "home/y/away": "/srv/up", "mnt/loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(root, link)); err != nil {
			t.Fatal(err)
		}
	}
	h := Under(root, nil)
	for path, want := range map[string][]string{
		"/srv":             {"/srv"},
		"/srv/x/q/new":     {"/srv/x/q/new", "/home/y/q/new"},
		"/srv/up/":         {"/srv/up", "/mnt"},
		"/srv/x/away/b":    {"/srv/x/away/b", "/home/y/away/b", "/srv/up/b", "/mnt/b"},
		"/nowhere/a/../b/": {"/nowhere/b"},
	} {
		if got := h.Ways(path); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if got := len(h.Ways("/mnt/loop")); got != maxLinks+1 {
		t.Errorf("a loop has %d ways", got)
	}
}
