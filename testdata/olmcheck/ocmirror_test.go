//go:build ocmirror

package olmcheck

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// An archive of oc-mirror, which must be on PATH, is imported by the appliance, and one of ours by
// oc-mirror: whichever it was, the images are the upstream's, and opm serves the filtered catalog.
func TestOCMirror(t *testing.T) {
	s, opm, dir := newSite(t), opmProgram(t), t.TempDir()
	const image = "samples/oci-multi:v1"
	set := s.imageSet(t, "  additionalImages:\n  - name: "+s.from+"/"+image+"\n")
	theirs, ours, carried := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours"), filepath.Join(dir, "carried")

	s.ocMirror(t, "-c", set, "file://"+theirs)
	s.mirror(t, "-c", set, "--from", "file://"+theirs, "docker://"+s.registry+"/from-theirs")
	s.mirror(t, "-c", set, "file://"+ours)
	carry(t, ours, carried)
	s.ocMirror(t, "-c", set, "--from", "file://"+carried, "docker://"+s.registry+"/from-ours")
	s.mirror(t, "-c", set, "docker://"+s.registry+"/direct", "--workspace", "file://"+filepath.Join(dir, "direct"))

	for _, from := range []string{"/from-theirs/", "/from-ours/"} {
		if got, want := s.served(t, s.registry+from+image), s.digest(t, image); got != want {
			t.Errorf("%s%s is %s, and %s at the upstream", from, image, got, want)
		}
		packages, bundles, err := serve(t, opm, catalogSource{}.command(t, s.pull(t, s.registry+from+catalogName)))
		if err != nil || packages != wantPackages || bundles != wantBundles {
			t.Errorf("%s: opm serves packages %s with bundles %s: %v", from, packages, bundles, err)
		}
	}
	if got, want := s.served(t, s.registry+"/from-ours/"+catalogName), s.served(t, s.registry+"/direct/"+catalogName); got != want {
		t.Errorf("the catalog that oc-mirror has imported is %s, and %s without an archive", got, want)
	}
}

func (s *site) ocMirror(t *testing.T, args ...string) {
	t.Helper()
	s.runOCMirror(t, t.TempDir(), append([]string{"--v2", "--src-tls-verify=false", "--port", freePort(t)}, args...)...)
}

// runOCMirror runs oc-mirror in a directory, and returns what it prints.
func (s *site) runOCMirror(t *testing.T, home string, args ...string) string {
	t.Helper()
	s.login(t, filepath.Join(home, "containers", "auth.json"))
	c := exec.Command("oc-mirror", args...)
	c.Dir = home
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "REGISTRY_") { // its own registry takes these for its configuration
			c.Env = append(c.Env, v)
		}
	}
	c.Env = append(c.Env, "HOME="+home, "XDG_RUNTIME_DIR="+home, "SSL_CERT_FILE="+s.ca(),
		"UPDATE_URL_OVERRIDE=http://"+s.from+sample.GraphPath)
	c.Env = append(c.Env, s.env...)
	text, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("oc-mirror %v: %v\n%s", args, err, text)
	}
	return string(text)
}
