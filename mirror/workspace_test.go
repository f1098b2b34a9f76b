package mirror

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/resources"
)

// Two mirrors of one release keep the same files when they share a workspace.
func TestWorkspace_Write_ofTwoAtOnce(t *testing.T) {
	w := workspace{t.TempDir()}
	var all sync.WaitGroup
	for _, letter := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			for range 100 {
				if err := w.Write("kept/graph.json", []byte(strings.Repeat(letter, 10000))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	got, err := w.Read("kept/graph.json")
	if err != nil || strings.Trim(string(got), string(got[:1])) != "" || len(got) != 10000 {
		t.Errorf("%d bytes of several, %v", len(got), err)
	}
	if left, _ := filepath.Glob(w.path("kept/*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

func TestWorkspace_Write_staysInside(t *testing.T) {
	w := workspace{t.TempDir()}
	for _, name := range []string{"../x", "a/../../x", "/x", "", "a//b"} {
		if err := w.Write(name, nil); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%q: error %v", name, err)
		}
	}
}

func TestWorkspace_replace(t *testing.T) {
	w := workspace{t.TempDir()}
	for _, name := range []string{"old", "new"} {
		paths, err := w.replace("cluster-resources", []resources.File{{Name: name + ".yaml", Data: []byte(name)}})
		if err != nil || !slices.Equal(paths, []string{w.path("cluster-resources/" + name + ".yaml")}) {
			t.Fatalf("%v, %v", paths, err)
		}
	}
	entries, err := os.ReadDir(w.path("cluster-resources"))
	if err != nil || len(entries) != 1 || entries[0].Name() != "new.yaml" {
		t.Errorf("the directory has %v, %v; want new.yaml", entries, err)
	}
	if info, err := entries[0].Info(); err != nil || info.Mode().Perm()&^0o644 != 0 {
		t.Errorf("the file has mode %v, %v", info.Mode(), err)
	}
	beside, err := os.ReadDir(w.path(""))
	if err != nil || len(beside) != 1 {
		t.Errorf("left beside it: %v, %v", beside, err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if paths, err := (workspace{filepath.Join(w.dir, "file")}).replace("cluster-resources", nil); err == nil {
		t.Errorf("wrote %v below a file", paths)
	}
}
