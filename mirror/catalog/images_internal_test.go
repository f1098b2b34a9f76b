package catalog

import (
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// A template that is not a file, or is too large, is refused: it would hold the run, or fill memory.
func TestEntry_template_refusesWhatIsNoFile(t *testing.T) {
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{fifo, "/dev/zero"} {
		p, e := &plan.Plan{}, &entry{ask: imageset.Operator{TargetCatalogSourceTemplate: name}, image: &plan.Image{}}
		if e.template(p); len(p.Warnings) != 1 || !strings.Contains(p.Warnings[0], "not a regular file") || e.image.Template != nil {
			t.Errorf("%s: %q", name, p.Warnings)
		}
	}
}
