package mirror

import (
	"os"
	"path/filepath"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// TestSwap_afterAnotherUser asserts that what root has made in a user's workspace does not stop that
// user's runs.
func TestSwap_afterAnotherUser(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	const nobody = 65534
	top, err := os.MkdirTemp("", "swap-") // whose directories above are open to others
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(top) })
	mk := func(name string, uid int) string {
		t.Helper()
		dir := filepath.Join(top, name)
		for _, err := range []error{os.Mkdir(dir, 0o755), os.WriteFile(filepath.Join(dir, "file"), []byte(name), 0o644), os.Chown(dir, uid, uid)} {
			if err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	if err := os.Chown(top, nobody, nobody); err != nil {
		t.Fatal(err)
	}
	dir := mk("dir", 0)
	for n := range 3 {
		next := mk("next", nobody)
		func() {
			runtime.LockOSThread() // the user is that of the thread
			defer runtime.UnlockOSThread()
			if err := unix.Setfsuid(nobody); err != nil {
				t.Fatal(err)
			}
			defer func() { _ = unix.Setfsuid(0) }()
			if err := swap(next, dir); err != nil {
				t.Errorf("run %d: %v", n, err)
			}
		}()
		if text, err := os.ReadFile(filepath.Join(dir, "file")); err != nil || string(text) != "next" {
			t.Errorf("run %d: the file is of %q, %v", n, text, err)
		}
	}
}
