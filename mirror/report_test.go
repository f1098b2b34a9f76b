package mirror

import (
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Two mirrors of one release keep the same files when they share a workspace.
func TestWriteFile_ofTwoAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "kept", "graph.json")
	var all sync.WaitGroup
	for _, letter := range []string{"a", "b", "c", "d"} {
		all.Go(func() {
			for range 100 {
				if err := writeFile(path, []byte(strings.Repeat(letter, 10000))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	got, err := os.ReadFile(path)
	if err != nil || strings.Trim(string(got), string(got[:1])) != "" || len(got) != 10000 {
		t.Errorf("%d bytes of several, %v", len(got), err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}
