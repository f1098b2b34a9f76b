package upstream

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// A registry at the port of HTTPS has two names.
func TestCertDirs_withAndWithoutThePort(t *testing.T) {
	for _, all := range [][]string{certDirs("registry.example.com"), certDirs("registry.example.com:443")} {
		for _, want := range []string{"/etc/containers/certs.d/registry.example.com", "/etc/containers/certs.d/registry.example.com:443"} {
			if !slices.Contains(all, want) {
				t.Errorf("certificates are read from %q, not from %s", all, want)
			}
		}
	}
}

func TestTrustFiles_ofTheFirstDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	usual := filepath.Join(home, ".config/containers/certs.d/registry.example.com:8443")
	named := t.TempDir()
	if err := os.MkdirAll(usual, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := TrustFiles(named, "registry.example.com:8443"); err == nil || hint.Of(err) == "" {
		t.Errorf("a directory without a certificate: %v", err)
	}
	for _, dir := range []string{usual, named} {
		if err := os.WriteFile(filepath.Join(dir, "ca.crt"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for dir, want := range map[string]string{"": usual, named: named} {
		files, err := TrustFiles(dir, "registry.example.com:8443")
		if err != nil || !slices.Equal(files, []string{filepath.Join(want, "ca.crt")}) {
			t.Errorf("%q: %v, %v", dir, files, err)
		}
	}
}

func TestTLSConfig_refuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if err := os.WriteFile(file, []byte("hello"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{file: "no PEM certificate in it", file + ".none": "no such file or directory"} {
		_, err := TLSConfig([]string{name}, false)
		if err == nil || err.Error() != "CA file "+name+": "+want || !strings.Contains(hint.Of(err), "BEGIN CERTIFICATE") {
			t.Errorf("error %v", err)
		}
	}
}
