package medium_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/medium"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// write writes a medium with a file in three pieces.
func write(t *testing.T) (dir string, content []byte) {
	t.Helper()
	dir = t.TempDir()
	content = bytes.Repeat([]byte("0123456789"), 25)
	from := filepath.Join(t.TempDir(), "iso")
	must(t, os.WriteFile(from, content, 0o600))
	w, err := medium.Create(dir)
	must(t, err)
	must(t, w.Put(t.Context(), medium.ImageSet, []byte("kind: ImageSetConfiguration\n")))
	must(t, w.Program(t.Context(), "appliance", from))
	must(t, w.File(t.Context(), "rhcos.iso", from, 100))
	must(t, w.File(t.Context(), "small", from, 0))
	must(t, os.WriteFile(filepath.Join(dir, "mirror_000001.tar"), []byte("an archive"), 0o600))
	must(t, w.Close(t.Context(), func(string) {}))
	return dir, content
}

func open(t *testing.T, dirs ...string) (*medium.Medium, error) {
	t.Helper()
	return medium.Open(t.Context(), func(string) {}, dirs...)
}

func TestOpen_whole(t *testing.T) {
	dir, content := write(t)
	m, err := open(t, dir)
	must(t, err)
	if len(m.Files) != 2 || m.Files[0].Name != "rhcos.iso" || m.Files[0].Size != 250 || len(m.Files[0].Pieces) != 3 ||
		m.Files[0].SHA256 != m.Files[1].SHA256 || m.Files[1].Size != int64(len(content)) {
		t.Errorf("the files are %+v", m.Files)
	}
	if info, err := os.Stat(filepath.Join(dir, "appliance")); err != nil || info.Mode().Perm()&0o100 == 0 {
		t.Errorf("the program: %v, %v", info, err)
	}
	if program, err := exec.LookPath("sha256sum"); err == nil {
		c := exec.Command(program, "-c", "--strict", medium.Sums)
		c.Dir = dir
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("sha256sum -c: %v\n%s", err, out)
		}
	}
}

func TestOpen_severalMedia(t *testing.T) {
	dir, _ := write(t)
	second := t.TempDir()
	must(t, os.Mkdir(filepath.Join(second, "files"), 0o755))
	const last = "files/rhcos.iso.part-0003-of-0003"
	must(t, os.Rename(filepath.Join(dir, last), filepath.Join(second, last)))
	if _, err := open(t, dir); err == nil || !strings.Contains(err.Error(), "missing: "+last) {
		t.Errorf("without the second: %v", err)
	}
	m, err := open(t, dir, second)
	must(t, err)
	if m.Files[0].Size != 250 {
		t.Errorf("with it: %+v", m.Files)
	}
	other, _ := write(t)
	must(t, os.WriteFile(filepath.Join(other, medium.Sums), []byte(strings.Repeat("0", 64)+"  appliance\n"), 0o600))
	if _, err := open(t, dir, other); err == nil || !strings.Contains(err.Error(), "different media") {
		t.Errorf("with another's: %v", err)
	}
}

func TestOpen_namesWhatIsWrong(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(dir string) error
		want  []string
	}{
		"damaged": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "mirror_000001.tar"), []byte("an Archive"), 0o600)
		}, []string{"damaged: ", "mirror_000001.tar"}},
		"two are damaged": {func(dir string) error {
			must(t, os.Truncate(filepath.Join(dir, "files/small"), 9))
			return os.Truncate(filepath.Join(dir, "appliance"), 0)
		}, []string{"files/small", "/appliance"}},
		"missing": {func(dir string) error { return os.Remove(filepath.Join(dir, "appliance")) }, []string{"missing: appliance"}},
		"foreign": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "mirror_000002.tar"), nil, 0o600)
		}, []string{"not of this medium: ", "mirror_000002.tar"}},
		"no list": {func(dir string) error { return os.Remove(filepath.Join(dir, medium.Sums)) }, []string{"there is no SHA256SUMS"}},
		"a list that leads elsewhere": {func(dir string) error {
			return os.WriteFile(filepath.Join(dir, medium.Sums), []byte(strings.Repeat("0", 64)+"  ../x\n"), 0o600)
		}, []string{"line 1 is not"}},
		"half of a list": {func(dir string) error { return os.Truncate(filepath.Join(dir, medium.Sums), 90) }, []string{"SHA256SUMS"}},
	} {
		t.Run(name, func(t *testing.T) {
			dir, _ := write(t)
			must(t, c.spoil(dir))
			_, err := open(t, dir)
			for _, want := range c.want {
				if name == "half of a list" {
					want = "is not"
				}
				if err == nil || !strings.Contains(err.Error(), want) {
					t.Errorf("want %q: %v", want, err)
				}
			}
		})
	}
}

func TestWriter_endsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	w, err := medium.Create(dir)
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.Put(ctx, "x", []byte("x")); err == nil {
		t.Error("it goes on")
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	if len(entries) != 0 {
		t.Errorf("left: %v", entries)
	}
	for _, name := range []string{"", "a b", "../x", "x.part-0001-of-0002", strings.Repeat("x", 129)} {
		if medium.CheckName(name) == nil {
			t.Errorf("%q is a name", name)
		}
	}
}
