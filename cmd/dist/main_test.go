package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/blakesmith/ar"
)

// made makes the archive and the packages of a program, in directories of their own.
func made(t *testing.T) map[string][]byte {
	t.Helper()
	d := dist{root: t.TempDir(), dir: t.TempDir(), tmp: t.TempDir(), version: "v1.2.3", date: time.Unix(1700000000, 0).UTC()}
	for _, file := range []string{d.root + "/README.md", d.tmp + "/appliance", d.tmp + "/man/appliance.1", d.tmp + "/bash", d.tmp + "/fish", d.tmp + "/zsh", d.root + "/LICENSE", d.licenseFile(),
		d.root + "/docs/install.md", d.root + "/docs/mirror.md", d.root + "/docs/operate.md", d.root + "/docs/cluster.md", d.root + "/docs/medium.md", d.root + "/docs/security.md"} {
		must(t, os.MkdirAll(filepath.Dir(file), 0o755))
		must(t, os.WriteFile(file, []byte(filepath.Base(file)), 0o600))
	}
	must(t, compress(d.tmp+"/man/appliance.1", d.tmp+"/man/appliance.1.gz"))
	names := []string{"appliance-v1.2.3-linux-arm64.tar.gz"}
	must(t, d.archive(names[0], d.tmp+"/appliance"))
	for _, format := range formats {
		name, err := d.pack(format, "arm64", d.tmp+"/appliance")
		must(t, err)
		names = append(names, name)
	}
	must(t, d.checksums(names))
	all := map[string][]byte{}
	for _, name := range append(names, "SHA256SUMS") {
		text, err := os.ReadFile(filepath.Join(d.dir, name))
		must(t, err)
		all[name] = text
	}
	return all
}

func TestDist_isTheSameEachTime(t *testing.T) {
	first, second := made(t), made(t)
	for _, name := range []string{"appliance-v1.2.3-linux-arm64.tar.gz", "appliance-1.2.3-1.aarch64.rpm", "appliance_1.2.3-1_arm64.deb", "SHA256SUMS"} {
		if len(first[name]) == 0 || !bytes.Equal(first[name], second[name]) {
			t.Errorf("%s: %d and %d bytes, which differ", name, len(first[name]), len(second[name]))
		}
	}
	if n := strings.Count(string(first["SHA256SUMS"]), "\n"); n != 3 {
		t.Errorf("checksums of %d files", n)
	}
}

// TestDist_debian has nothing come but the program, what describes it and its user, and scripts that pass
// for shell.
func TestDist_debian(t *testing.T) {
	text := made(t)["appliance_1.2.3-1_arm64.deb"]
	modes, scripts := map[string]int64{}, map[string]string{}
	for r := ar.NewReader(bytes.NewReader(text)); ; {
		part, err := r.Next()
		if err == io.EOF {
			break
		}
		must(t, err)
		if !strings.HasSuffix(part.Name, ".tar.gz") {
			continue
		}
		z, err := gzip.NewReader(r)
		must(t, err)
		for files := tar.NewReader(z); ; {
			h, err := files.Next()
			if err == io.EOF {
				break
			}
			must(t, err)
			if h.Typeflag != tar.TypeReg {
				continue
			}
			modes[h.Name] = h.Mode
			content, err := io.ReadAll(files)
			must(t, err)
			scripts[h.Name] = string(content)
		}
	}
	if modes["./usr/bin/appliance"] != 0o755 || modes["./usr/lib/systemd/system/appliance-upgrade.service"] != 0o644 {
		t.Errorf("modes %v", modes)
	}
	for name := range modes {
		if strings.HasPrefix(name, "./etc/") || strings.HasSuffix(name, "/appliance.service") || strings.HasSuffix(name, "/appliance.socket") {
			t.Errorf("%s, which is the installer's to write", name)
		}
	}
	for _, name := range []string{"./postinst", "./prerm", "./postrm"} {
		if !strings.HasPrefix(scripts[name], "#!/bin/sh\n") {
			t.Errorf("%s is %q", name, scripts[name])
		}
	}
	if user := scripts["./usr/lib/sysusers.d/appliance.conf"]; !strings.HasSuffix(user, "\nu appliance - \"Mirror appliance\"\n") {
		t.Errorf("the user is %q, and not the installer's", user)
	}
}

func TestDist_packageVersion(t *testing.T) {
	for version, want := range map[string]string{"v1.2.3": "1.2.3", "1.2.3": "1.2.3",
		"v1.2.3-4-gabcdef": "0.0.0~git20231114221320.v1.2.3.4.gabcdef", "dev": "0.0.0~git20231114221320.dev"} {
		d := dist{version: version, date: time.Unix(1700000000, 0).UTC()}
		if got := d.packageVersion(); got != want {
			t.Errorf("%s is %s and not %s", version, got, want)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestLicensesOf(t *testing.T) {
	dir := t.TempDir()
	for file, text := range map[string]string{"a/LICENSE": "MIT\n", "b/LICENSE.txt": "MIT", "b/NOTICE": "b", "c/README": "MIT", "c/license.go": "package c"} {
		must(t, os.MkdirAll(filepath.Join(dir, filepath.Dir(file)), 0o755))
		must(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o600))
	}
	text, err := licensesOf([]string{"b", dir + "/b", "a", dir + "/a"})
	if want := "a\nb\n\nMIT\n\n" + strings.Repeat("-", 80) + "\nb\n\nb\n"; err != nil || text != want {
		t.Errorf("%q and %v", text, err)
	}
	if _, err := licensesOf([]string{"c", dir + "/c"}); err == nil {
		t.Error("a module without a license is accepted")
	}
}
