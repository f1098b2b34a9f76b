package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFirstLink(t *testing.T) {
	dir := t.TempDir()
	link := filepath.Join(dir, "link")
	if err := os.Symlink("/elsewhere/", link); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{link: link, link + "/below": link, dir + "/absent": "", "": ""} {
		if got, to := firstLink(path); got != want || got != "" && to != "/elsewhere" {
			t.Errorf("%q: %q leads to %q", path, got, to)
		}
	}
}

// TestPlaceHint_namesWhatIsInTheWay tries a path through a file.
func TestPlaceHint_namesWhatIsInTheWay(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := os.Open(file + "/in/it")
	if hint := placeHint(err); !strings.HasPrefix(hint, file+" is not a directory") {
		t.Errorf("hint %q", hint)
	}
}
