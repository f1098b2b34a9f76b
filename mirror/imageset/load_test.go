package imageset_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// A shell's <(command) is a pipe.
func TestLoad_fromAPipe(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	go func() {
		defer w.Close()
		_, _ = w.WriteString(everything[:20])
		_, _ = w.WriteString(everything[20:])
	}()
	if c, err := imageset.Load(fmt.Sprintf("/proc/self/fd/%d", r.Fd())); err != nil || c.ArchiveSize != 4 {
		t.Errorf("%+v, %v", c, err)
	}
	t.Run("that nothing writes to", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "isc.yaml")
		if err := unix.Mkfifo(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := imageset.Load(path); err == nil || !strings.Contains(err.Error(), "empty") {
			t.Errorf("error %v", err)
		}
	})
}

func TestParse_aLineOfDashesAtTheEnd(t *testing.T) {
	for _, end := range []string{"---\n", "---\n# no more\n", "...\n"} {
		if c := parse(t, head+"mirror: {}\n"+end); len(c.Warnings) != 0 {
			t.Errorf("%q: warnings %v", end, c.Warnings)
		}
	}
}
