package main_test

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Operators are listed from an archive and from an appliance as from their sources, with the sizes of
// their versions; the sources are not asked.
func TestListOperators_fromWhatWasMirrored(t *testing.T) {
	s := newSite(t)
	index := s.source + "/redhat/redhat-operator-index:v4.18"
	set := s.set(t, "imageset.yaml", "  operators:\n  - catalog: HOST/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-database, channels: [{name: stable, minVersion: 1.1.0}]}]\n")
	archive := "file://" + s.dir + "/archive"
	s.works(t, "mirror", "-c", set, archive, "--src-tls-verify=false")
	s.mirror(t, set)
	appliance := []string{"--from", "docker://" + s.address, "--src-creds", "admin:" + faultPassword}
	sizes := func(flags ...string) string {
		return s.works(t, append([]string{"list", "operators", "--catalog", index, "--package", "sample-database", "--sizes"}, flags...)...)
	}
	list := func(flags ...string) string { return s.works(t, append([]string{"list", "operators"}, flags...)...) }
	atSource := sizes("--src-tls-verify=false")
	if !strings.Contains(atSource, "1.0.0    stable        3 ") || !strings.Contains(atSource, "1.2.0    fast, stable  3 ") || !strings.Contains(atSource, "all                    10 ") {
		t.Errorf("the sizes are\n%s", atSource)
	}
	s.upstream.Close()

	t.Run("by the directory of the destination's certificates", func(t *testing.T) {
		certs := t.TempDir()
		ca, err := os.ReadFile(s.cfg.TLS.CA)
		must(t, err)
		must(t, os.WriteFile(filepath.Join(certs, "ca.crt"), ca, 0o600))
		c := exec.Command(s.program, append([]string{"list", "operators", "--dest-cert-dir", certs}, appliance...)...)
		c.Env = []string{"HOME=" + s.dir, "CONTAINERS_REGISTRIES_CONF=/dev/null", "SSL_CERT_FILE=/dev/null"}
		if code, stdout, stderr := outcome(t, c); code != 0 || !strings.Contains(stdout, index) {
			t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
		}
	})
	t.Run("an archive of another program", func(t *testing.T) {
		other := t.TempDir()
		tarWithout(t, filepath.Join(s.dir, "archive", "mirror_000001.tar"), filepath.Join(other, "mirror_000001.tar"), "appliance-")
		if out := list("--from", "file://"+other, "--catalog", index, "--package", "sample-database", "--channel", "stable"); out != "VERSIONS\n1.1.0\n1.2.0\n" {
			t.Errorf("it has\n%s", out)
		}
		if out := list("--from", "file://"+other); strings.Count(out, "redhat/redhat-operator-index:") != 1 || strings.Count(out, "\n") != 2 {
			t.Errorf("its catalogs are\n%s", out)
		}
	})
	for where, from := range map[string][]string{"archive": {"--from", archive}, "appliance": appliance} {
		var held []struct{ Catalog, Image, Digest string }
		must(t, json.Unmarshal([]byte(list(append(from, "-o", "json")...)), &held))
		if len(held) != 1 || held[0].Catalog != index || !strings.Contains(held[0].Image, "redhat/redhat-operator-index:") || held[0].Digest == "" {
			t.Fatalf("the catalogs of the %s are %+v", where, held)
		}
		if out := list(from...); !strings.Contains(out, index) || !strings.Contains(out, held[0].Image) {
			t.Errorf("the catalogs of the %s are\n%s", where, out)
		}
		names := []string{index, held[0].Image}
		if where == "appliance" { // as in its configuration and its listings
			names = append(names, strings.TrimPrefix(held[0].Image, s.address+"/"))
		}
		for _, name := range names {
			if out := list(append(from, "--catalog", name, "--package", "sample-database", "--channel", "stable")...); out != "VERSIONS\n1.1.0\n1.2.0\n" {
				t.Errorf("in the %s, %s has\n%s", where, name, out)
			}
		}
		var packages []struct {
			Name  string
			Sizes struct {
				Images, Bytes int64
				Versions      []struct {
					Version       string
					Channels      []string
					Images, Bytes int64
				}
			}
		}
		must(t, json.Unmarshal([]byte(sizes(append(from, "-o", "json")...)), &packages))
		of := packages[0].Sizes
		if len(packages) != 1 || len(of.Versions) != 2 || of.Images != 5 || of.Versions[0].Version != "1.1.0" || of.Versions[1].Images != 3 ||
			of.Bytes <= of.Versions[0].Bytes || of.Bytes >= of.Versions[0].Bytes+of.Versions[1].Bytes {
			t.Errorf("the sizes in the %s are %+v", where, packages)
		}
		for line := range strings.Lines(sizes(from...)) {
			if strings.HasPrefix(line, "1.1.0") && !strings.Contains(atSource, strings.Join(strings.Fields(line)[3:], " ")) {
				t.Errorf("the %s has %s, the source\n%s", where, line, atSource)
			}
		}
	}
	for want, flags := range map[string][]string{
		"the archive has no catalog x/y:z\nhint: leave --catalog out": {"--from", archive, "--catalog", "x/y:z"},
		"a user of role admin": {"--from", "docker://" + s.address, "--src-creds", "pull:" + faultPassword},
	} {
		if code, _, stderr := s.run(t, append([]string{"list", "operators"}, flags...)...); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit code %d, %s", flags, code, stderr)
		}
	}
	code, out, stderr := s.run(t, "list", "operators", "--catalog", s.address+"/redhat/redhat-operator-index:v4.18", "--package", "sample-database",
		"--sizes", "--src-creds", "admin:"+faultPassword, "--retry-times", "0")
	if code != 1 || !strings.Contains(out, "1.1.0    stable    3       0 B without 3") || !strings.Contains(stderr, "5 images that cannot be read") {
		t.Errorf("with the source gone: exit code %d\n%s%s", code, out, stderr)
	}
}

// tarWithout copies a tar without the entries that begin with a prefix.
func tarWithout(t *testing.T, from, to, prefix string) {
	t.Helper()
	in, err := os.Open(from)
	must(t, err)
	defer in.Close()
	out, err := os.Create(to)
	must(t, err)
	w := tar.NewWriter(out)
	for r := tar.NewReader(in); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		must(t, err)
		if strings.HasPrefix(h.Name, prefix) {
			continue
		}
		must(t, w.WriteHeader(h))
		_, err = io.Copy(w, r)
		must(t, err)
	}
	must(t, errors.Join(w.Close(), out.Close()))
}
