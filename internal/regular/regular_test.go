package regular

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestReadFile(t *testing.T) {
	dir := t.TempDir()
	fifo, big, small := filepath.Join(dir, "fifo"), filepath.Join(dir, "big"), filepath.Join(dir, "small")
	if err := errors.Join(unix.Mkfifo(fifo, 0o600), os.WriteFile(big, make([]byte, maxSize+1), 0o600), os.WriteFile(small, make([]byte, maxSize), 0o600)); err != nil {
		t.Fatal(err)
	}
	if data, err := ReadFile(small); err != nil || len(data) != maxSize {
		t.Errorf("%d bytes, %v", len(data), err)
	}
	for _, file := range []string{fifo, big, dir, "/dev/zero"} {
		if _, err := ReadFile(file); !errors.Is(err, ErrRefused) || !strings.HasPrefix(err.Error(), file+": it is ") {
			t.Errorf("%s: %v", file, err)
		}
	}
	if _, err := ReadFile(filepath.Join(dir, "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestReadSecret(t *testing.T) {
	file := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(file, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for mode, open := range map[os.FileMode]bool{0o600: false, 0o400: false, 0o640: true, 0o604: true, 0o620: true} {
		if err := os.Chmod(file, mode); err != nil {
			t.Fatal(err)
		}
		if data, err := ReadSecret(file); errors.Is(err, ErrRefused) != open || open == (string(data) == "x") {
			t.Errorf("%o: %q, %v", mode, data, err)
		}
	}
}
