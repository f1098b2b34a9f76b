package installer

import (
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/systemd"
)

// While a disk is not mounted, no command begins another store on the file system below.
func TestCheckMounted(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(b *box, from string) error{
		"the disk of the images":   func(b *box, from string) error { return os.Rename(b.path("mnt/disk/images"), b.path(from)) },
		"the disk of the database": func(b *box, from string) error { return os.Rename(b.path("mnt/disk/db"), b.path(from)) },
		"the disk of both": func(b *box, from string) error {
			return errors.Join(os.Rename(b.path("mnt/disk"), b.path(from)), os.Mkdir(b.path("mnt/disk"), 0o755))
		},
		"a mount point of the images": func(b *box, from string) error {
			return errors.Join(os.Rename(b.path("mnt/disk/images"), b.path(from)), os.Mkdir(b.path("mnt/disk/images"), 0o755))
		},
		"a mount point of the database": func(b *box, from string) error {
			return errors.Join(os.Rename(b.path("mnt/disk/db"), b.path(from)), os.Mkdir(b.path("mnt/disk/db"), 0o755))
		},
		"mount points of both": func(b *box, from string) error {
			return errors.Join(os.Rename(b.path("mnt/disk"), b.path(from)), os.MkdirAll(b.path("mnt/disk/images"), 0o755), os.Mkdir(b.path("mnt/disk/db"), 0o755))
		},
		"the disk of the configuration": func(b *box, from string) error { return os.Rename(b.path("root/quay-install"), b.path(from)) },
		"a mount point of all": func(b *box, from string) error {
			return errors.Join(os.Rename(b.path("root/quay-install"), b.path(from)), os.Mkdir(b.path("root/quay-install"), 0o755))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, false)
			r := b.request()
			r.QuayStorage, r.SqliteStorage = "/mnt/disk/images", "/mnt/disk/db"
			if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if err := lose(b, "away"); err != nil {
				t.Fatal(err)
			}
			before := b.snapshot()
			moves := b.request()
			moves.QuayStorage = "/srv/images"
			for what, try := range map[string]func() error{
				"install":          func() error { _, err := PlanInstall(t.Context(), b.request(), b.deps); return err },
				"the same install": func() error { _, err := PlanInstall(t.Context(), r, b.deps); return err },
				"upgrade":          func() error { return b.typed(b.request()) },
				"a move":           func() error { return b.typed(moves) },
			} {
				var refused *PreflightError
				if err := try(); !errors.As(err, &refused) || !strings.Contains(refused.Problems[0].Remedy, "mount the file system that has it") {
					t.Errorf("%s: %v", what, err)
				}
			}
			same(t, "after the commands", b.snapshot(), before)
		})
	}
}

// A service that does not run, for whatever reason, is left as it was by an install that fails.
func TestGuard_Undo(t *testing.T) {
	t.Parallel()
	for name, retries := range map[string]bool{"it ends again and again": true, "its socket listens": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, false)
			b.install()
			b.sm.ends, b.sm.retrying = true, retries
			delete(b.sm.active, systemd.Service)
			before := b.snapshot()
			if _, err := b.plan(b.request()).Apply(t.Context(), nil); err == nil {
				t.Fatal("no error")
			}
			same(t, "after an install that failed", b.snapshot(), before)
			if b.sm.retrying != retries {
				t.Errorf("it is started again and again: %v", b.sm.retrying)
			}
		})
	}
}
