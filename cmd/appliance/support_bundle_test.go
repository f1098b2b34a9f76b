package main_test

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/config"
)

// bundled returns the files of a support bundle.
func bundled(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	must(t, err)
	defer f.Close()
	info, err := f.Stat()
	must(t, err)
	if info.Mode().Perm() != 0o600 {
		t.Errorf("its mode is %o", info.Mode().Perm())
	}
	zipped, err := gzip.NewReader(f)
	must(t, err)
	files := map[string]string{}
	for r := tar.NewReader(zipped); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		must(t, err)
		text, err := io.ReadAll(r)
		must(t, err)
		files[filepath.Base(h.Name)] = string(text)
	}
}

func TestSupportBundle(t *testing.T) {
	s := newSite(t)
	file := filepath.Join(s.dir, "case.tar.gz")
	code, stdout, stderr := s.run(t, "support-bundle", "--quayRoot", s.root, "-o", file)
	if code != 0 || stdout != file+"\n" || !strings.Contains(stderr, "collecting journal\n") {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	files := bundled(t, file)
	for name, want := range map[string]string{
		"config.yaml": "hostname: localhost", "status.json": `"address": "` + s.address, "doctor.json": `"check": "database"`,
		"metrics.txt": "appliance_build_info", "database.txt": "free pages ", "df.txt": "inodes", "listeners.txt": "LISTEN 127.0.0.1:",
		"files.txt": "rootCA-key.pem", "README.txt": "journal.txt: the appliance is not installed as a service",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q:\n%.2000s", name, want, files[name])
		}
	}

	s.kill()
	s.appendTo(t, "minFree: lots\n")
	code, _, stderr = s.run(t, "support-bundle", "--quayRoot", s.root, "-o", file)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, stderr)
	}
	files = bundled(t, file)
	for name, want := range map[string]string{
		"config.yaml": "minFree: lots", "doctor.json": "minFree", "README.txt": "status.json: the daemon does not answer",
	} {
		if !strings.Contains(files[name], want) {
			t.Errorf("%s lacks %q:\n%.2000s", name, want, files[name])
		}
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, ".case*")); len(left) > 0 {
		t.Errorf("it leaves %q", left)
	}
	must(t, os.Remove(config.Path(s.root)))
	if code, _, stderr := s.run(t, "support-bundle", "--quayRoot", s.root, "-o", file+"2"); code != 1 || !strings.Contains(stderr, "no appliance found") {
		t.Errorf("exit code %d\n%s", code, stderr)
	}
}
