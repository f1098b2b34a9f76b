package tlsgen

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// TestManager_fullDisk issues a certificate where nothing can be written: it is served from memory,
// is no healthy status, and is written once there is room.
func TestManager_fullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can mount a small file system")
	}
	ca := newCA(t)
	for name, before := range map[string]func(t *testing.T, o Options) string{
		"nothing was issued yet":         func(*testing.T, Options) string { return "" },
		"the state is lost":              func(t *testing.T, o Options) string { return install(t, o, ca, time.Now(), "r.example.com") },
		"the certificate is for another": func(t *testing.T, o Options) string { install(t, o, ca, time.Now(), "old.example.com"); return "" },
		"the certificate expired long ago": func(t *testing.T, o Options) string {
			install(t, o, ca, time.Now().Add(-3*leafLifetime), "r.example.com")
			return ""
		},
	} {
		t.Run(name, func(t *testing.T) {
			disk := t.TempDir()
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			must(syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=256k"))
			t.Cleanup(func() { must(syscall.Unmount(disk, 0)) })
			o := options(t, ca, "r.example.com")
			o.CertFile, o.KeyFile, o.StateDir = filepath.Join(disk, "ssl.cert"), filepath.Join(disk, "ssl.key"), filepath.Join(disk, "state")
			o.pollEvery = time.Millisecond
			must(os.Mkdir(o.StateDir, 0o700))
			want := before(t, o)
			fill, err := os.Create(filepath.Join(disk, "fill"))
			must(err)
			for {
				if _, err = fill.Write(make([]byte, 4096)); err != nil {
					break
				}
			}
			must(fill.Close())
			patient := o
			patient.pollEvery = time.Hour
			m, err := NewManager(t.Context(), patient)
			must(err)
			must(m.Close()) // which waits for no room
			m, err = NewManager(t.Context(), o)
			must(err)
			defer m.Close()
			if got := serial(t, m, ca.Pool(), "r.example.com"); want != "" && got != want {
				t.Errorf("served is %s, and %s was there", got, want)
			}
			if refused, _ := troubles(t, m); refused == "" {
				t.Error("it is healthy")
			}
			must(os.Remove(fill.Name()))
			eventually(t, "it has tried again", func() bool { refused, _ := troubles(t, m); return refused == "" })
			if got, file := serial(t, m, ca.Pool(), "r.example.com"), fileSerial(t, o); got != file {
				t.Errorf("served is %s, the file holds %s", got, file)
			}
			if left, err := filepath.Glob(filepath.Join(disk, ".*")); len(left) > 0 || err != nil {
				t.Errorf("left behind are %q, %v", left, err)
			}
			must(m.Close())
			select {
			case <-m.source.(*interim).inner.Load().storage.ending.Done():
			default:
				t.Error("what renews goes on")
			}
		})
	}
}
