package mirror_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
)

// Each file that the workspace keeps of a catalog is made anew when it is damaged, in the run that finds it.
func TestRun_damagedCatalogOfTheWorkspace(t *testing.T) {
	const config = "  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database}]}]\n"
	s := newSetup(t, config)
	s.keeping(t, config)
	want := s.digestOf(t)
	const image = "filtered-catalogs/*/image/"
	empty := func(name string) error { return os.Truncate(name, 0) }
	other := func(name string) error { return os.WriteFile(name, []byte("x\n"), 0o644) }
	// bytes changes what the file has, and not its size.
	bytes := func(name string) error {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		return os.WriteFile(name, []byte(strings.Repeat("x", len(text))), 0o644)
	}
	for _, tc := range []struct {
		name, files string
		damage      func(string) error
	}{
		{"an empty index.json", image + "index.json", empty},
		{"no index.json", image + "index.json", os.Remove},
		{"other bytes in the blobs", image + "blobs/sha256/*", other},
		{"no blobs", image + "blobs/sha256/*", os.Remove},
		{"no files of a package", "catalog-files/sample-database/catalog.json", os.Remove},
		{"an empty file of a package", "catalog-files/sample-database/catalog.json", empty},
		{"other bytes in a file of a package", "catalog-files/sample-database/catalog.json", bytes},
		{"a damaged index, and files", "catalog-*/*/catalog.json", func(name string) error {
			return errors.Join(os.WriteFile(filepath.Join(filepath.Dir(name), "../../catalog-index"), nil, 0o644), bytes(name))
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files, err := filepath.Glob(filepath.Join(s.workspace, "working-dir/operator-catalogs/redhat-operator-index/*", tc.files))
			if err != nil || len(files) == 0 {
				t.Fatal(files, err)
			}
			for _, name := range files {
				if err := tc.damage(name); err != nil {
					t.Fatal(err)
				}
			}
			r, err := mirror.Run(t.Context(), s.options(t, config, s.beginning))
			if err != nil || len(r.Failures) > 0 {
				t.Fatalf("the run: %v", err)
			}
			if !strings.Contains(strings.Join(r.Warnings, "\n"), "was damaged and is made anew") {
				t.Errorf("it warns of %q", r.Warnings)
			}
			if got := s.digestOf(t); got != want {
				t.Errorf("the catalog is %s, and was %s", got, want)
			}
			if r := s.keeping(t, config); strings.Contains(strings.Join(r.Warnings, "\n"), "damaged") {
				t.Errorf("the next run warns of %q", r.Warnings)
			}
		})
	}
}

// digestOf returns the digest of the catalog at the destination.
func (s *setup) digestOf(t *testing.T) string {
	t.Helper()
	m, err := s.store.Manifests.ByTag(t.Context(), "redhat/redhat-operator-index", "v4.18")
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest.String()
}

// A catalog that does not fit into the workspace is announced, and fails with what it needs: while it is
// extracted, and while its index is written.
func TestCollect_catalogFillsTheDisk(t *testing.T) {
	for _, size := range []string{"size=4k", "size=8k"} {
		t.Run(size, func(t *testing.T) { catalogFillsTheDisk(t, size) })
	}
}

func catalogFillsTheDisk(t *testing.T, size string) {
	const config = "  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database}]}]\n"
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, size); err != nil {
		t.Fatal("a file system can be mounted by root only: ", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s := newSetup(t, config, func(o *mirror.Options) { o.Workspace = disk })
	p := s.plan(t)
	if len(p.Failures) != 1 {
		t.Fatalf("the plan is %+v", p)
	}
	f := p.Failures[0]
	if !strings.Contains(f.Error, "no space left on device") || !strings.Contains(hint.Of(f.Cause), "the files of the catalog need about ") || !strings.Contains(hint.Of(f.Cause), "(df -h "+disk) {
		t.Errorf("the failure is %s, hint %s", f.Error, hint.Of(f.Cause))
	}
	if !slices.ContainsFunc(p.Warnings, func(w string) bool {
		return strings.Contains(w, "its files need about ") && strings.Contains(w, ", where "+strings.ToUpper(size[5:6])+".0 KiB are free")
	}) {
		t.Errorf("warnings %q", p.Warnings)
	}
}
