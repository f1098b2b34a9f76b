package tlsgen

import (
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// linkedOptions have certificate and key in a directory of root's, as links to the daemon's.
func linkedOptions(t *testing.T, ca *CA, relative bool) (o, own Options) {
	t.Helper()
	o = options(t, ca, "r.example.com")
	own = o
	own.CertFile, own.KeyFile = filepath.Join(o.StateDir, "ssl.cert"), filepath.Join(o.StateDir, "ssl.key")
	if err := os.MkdirAll(o.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	for link, file := range map[string]string{o.CertFile: own.CertFile, o.KeyFile: own.KeyFile} {
		if relative {
			target, err := filepath.Rel(filepath.Dir(link), file)
			if err != nil {
				t.Fatal(err)
			}
			file = target
		}
		if err := os.Symlink(file, link); err != nil {
			t.Fatal(err)
		}
	}
	return o, own
}

func TestManager_WritesThroughLinks(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	for name, c := range map[string]struct {
		signer   *CA
		relative bool
	}{
		"no files yet":                    {nil, true},
		"a pair that the CA did not sign": {other, true},
		"absolute links":                  {other, false},
	} {
		t.Run(name, func(t *testing.T) {
			o, own := linkedOptions(t, ca, c.relative)
			var foreign string
			if c.signer != nil {
				foreign = install(t, own, c.signer, time.Now(), "r.example.com")
			}
			m := start(t, o)
			if got := fileSerial(t, own); got != serial(t, m, ca.Pool(), "r.example.com") {
				t.Error("what is served is not in the file that the link names")
			}
			for _, link := range []string{o.CertFile, o.KeyFile} {
				if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
					t.Errorf("%s is no link any more, %v", link, err)
				}
			}
			aside := own
			aside.CertFile, aside.KeyFile = own.CertFile+".replaced", own.KeyFile+".replaced"
			if c.signer != nil && fileSerial(t, aside) != foreign {
				t.Error("the pair that was there is lost")
			}
		})
	}
}

// A pair that the CA did not sign, in a directory that the daemon may not write to, is left alone,
// and another is served.
func TestManager_LeavesWhatItMayNotReplace(t *testing.T) {
	ca, other := newCA(t), newCA(t)
	o := options(t, ca, "r.example.com")
	before := install(t, o, other, time.Now(), "r.example.com")
	o.StateDir = t.TempDir()
	for path, mode := range map[string]fs.FileMode{filepath.Dir(o.StateDir): 0o755, o.StateDir: 0o777, filepath.Dir(o.CertFile): 0o555, o.KeyFile: 0o644, o.CertFile: 0o644} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() { _ = os.Chmod(filepath.Dir(o.CertFile), 0o755) }) // for who removes it
	if os.Geteuid() == 0 {
		runtime.LockOSThread() // never unlocked: the thread ends with the test, and with it this user
		if err := unix.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = unix.Setfsuid(0) }() // for who cleans up
	}
	m, err := NewManager(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	serial(t, m, ca.Pool(), "r.example.com")
	if got := fileSerial(t, o); got != before {
		t.Errorf("the file holds %s, want %s", got, before)
	}
}
