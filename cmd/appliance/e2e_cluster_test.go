//go:build e2e

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/config"
)

// The files of cluster-config fed to skopeo and podman: they pull by the names of the source, of
// mirrored images and of an upstream's, with the login of the nodes, and the source
// gone.
func TestClusterConfig_clientsPullByUpstreamNames(t *testing.T) {
	s := newClusterSite(t)
	other, through := newUpstream(t)
	s.configure(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "through", URL: "http://" + through}}
	})
	dir := filepath.Join(s.dir, "out")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64")
	client := func(args ...string) (int, string) {
		c := exec.Command(args[0], args[1:]...)
		c.Env = append(os.Environ(), "HOME="+s.dir, "SSL_CERT_FILE="+dir+"/ca-bundle.pem", "REGISTRY_AUTH_FILE="+dir+"/pull-secret.json",
			"CONTAINERS_REGISTRIES_CONF="+dir+"/registries.conf")
		code, stdout, stderr := outcome(t, c)
		return code, stdout + stderr
	}
	content, err := sample.New(s.source)
	must(t, err)
	release, _ := content.Release("4.18.2", "amd64")
	names := []string{release.Payload, release.Components["etcd"], s.source + "/samples/docker:v1", through + "/samples/oci:v1"}
	store, err := os.MkdirTemp("", "podman") // shorter than t.TempDir, as podman wants it
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(store)) })
	podman := []string{"podman", "--root", store + "/root", "--runroot", store + "/run", "--storage-driver", "vfs"}
	conf := "--registries-conf=" + dir + "/registries.conf" // skopeo of RHEL 8 and Debian 12 does not read the variable
	s.upstream.Close()
	for n, name := range names {
		if code, said := client("skopeo", conf, "copy", "-q", "docker://"+name, "dir:"+t.TempDir()); code != 0 {
			t.Errorf("skopeo of %s: %s", name, said)
		}
		if n+1 == len(names) {
			other.Close() // podman gets what skopeo pulled through
		}
		if code, said := client(append(podman, "pull", "-q", name)...); code != 0 {
			t.Errorf("podman of %s: %s", name, said)
		}
	}
	if code, said := client("skopeo", conf, "inspect", "--raw", "docker://"+s.source+"/samples/never-mirrored:v1"); code == 0 {
		t.Errorf("what no mirror has is there: %s", said)
	}
}
