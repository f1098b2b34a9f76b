//go:build openshiftinstall

package main_test

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// openshift-install, which must be on PATH as oc must, takes the files of a directory as they are once the marks
// are filled in, and gives the hosts the mirrors, the CA and the login of the nodes. It takes the boot
// image out of the mirror, and makes no ISO: the sample's is none that boots.
func TestOpenShiftInstall_clusterConfig(t *testing.T) {
	s := newClusterSite(t)
	dir := filepath.Join(s.dir, "dir")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64", "--ztp")
	script, err := os.ReadFile(filepath.Join(dir, "install.sh"))
	must(t, err)
	create := func(what string, inputs ...string) (assets string) {
		t.Helper()
		assets = t.TempDir()
		must(t, os.CopyFS(filepath.Join(assets, "openshift"), os.DirFS(filepath.Join(dir, "openshift"))))
		for _, in := range inputs {
			must(t, os.CopyFS(assets, os.DirFS(in)))
		}
		c := exec.Command("openshift-install", "agent", "create", what, "--dir", assets)
		c.Env = append(os.Environ(), "HOME="+s.dir, "SSL_CERT_FILE="+dir+"/ca-bundle.pem", "OPENSHIFT_INSTALL_RELEASE_IMAGE_OVERRIDE="+cluster.ReleaseOf(script))
		if said, err := c.CombinedOutput(); err != nil {
			t.Fatalf("create %s: %v\n%s", what, err, said)
		}
		return assets
	}
	filled := t.TempDir()
	for _, name := range []string{"install-config.yaml", "agent-config.yaml"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		text = fillIn(t, text)
		must(t, os.WriteFile(filepath.Join(filled, name), text, 0o600))
		must(t, os.WriteFile(filepath.Join(dir, name), text, 0o600))
	}
	create("config-image", filled)
	s.nodesGet(t, filepath.Join(create("unconfigured-ignition", filled), "unconfigured-agent.ign"))

	// Zero-touch provisioning has manifests of its own in place of the two files.
	manifests := create("cluster-manifests", filled)
	must(t, os.RemoveAll(filepath.Join(manifests, "mirror")))
	must(t, os.CopyFS(filepath.Join(manifests, "mirror"), os.DirFS(filepath.Join(dir, "mirror"))))
	zeroTouch := t.TempDir()
	for _, part := range []string{"cluster-manifests", "mirror"} {
		must(t, os.CopyFS(filepath.Join(zeroTouch, part), os.DirFS(filepath.Join(manifests, part))))
	}
	s.nodesGet(t, filepath.Join(create("unconfigured-ignition", zeroTouch), "unconfigured-agent.ign"))
}

// install.sh has openshift-install take the boot image out of the mirror. The source is gone, and so is
// the internet, to which it would fall back.
func TestOpenShiftInstall_bootImage(t *testing.T) {
	s := newClusterSite(t)
	dir, work := filepath.Join(s.dir, "dir"), filepath.Join(s.dir, "work")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64")
	s.upstream.Close()
	for _, name := range []string{"install-config.yaml", "agent-config.yaml"} {
		text, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), fillIn(t, text), 0o600))
	}
	script, err := os.ReadFile(filepath.Join(dir, "install.sh"))
	must(t, err)
	installer, err := exec.LookPath("openshift-install")
	must(t, err)
	must(t, os.MkdirAll(work, 0o755))
	must(t, os.Symlink(installer, filepath.Join(work, "openshift-install")))
	c := exec.Command(filepath.Join(dir, "install.sh"), "image")
	c.Env = append(os.Environ(), "HOME="+s.dir, "WORK="+work, "OPENSHIFT_INSTALL_RELEASE_IMAGE_OVERRIDE="+cluster.ReleaseOf(script))
	said, _ := c.CombinedOutput()
	if !strings.Contains(string(said), "Base ISO obtained from release") {
		t.Errorf("%s", said)
	}
}

// fillIn does what its user does with a file: it deletes the marks, and names a key.
func fillIn(t *testing.T, text []byte) []byte {
	t.Helper()
	public, _, err := ed25519.GenerateKey(nil)
	must(t, err)
	key, err := ssh.NewPublicKey(public)
	must(t, err)
	text = regexp.MustCompile(` # FILL-IN:.*`).ReplaceAll(text, nil)
	return regexp.MustCompile(`(?m)^sshKey: .*`).ReplaceAll(text, append([]byte("sshKey: "), ssh.MarshalAuthorizedKey(key)...))
}

// nodesGet checks what hosts get that are booted with an ignition.
func (s *site) nodesGet(t *testing.T, ignition string) {
	t.Helper()
	text, err := os.ReadFile(ignition)
	must(t, err)
	var config struct {
		Storage struct {
			Files []struct {
				Path     string
				Contents struct{ Source string }
			}
		}
	}
	must(t, json.Unmarshal(text, &config))
	files := map[string]string{}
	for _, f := range config.Storage.Files {
		if _, encoded, found := strings.Cut(f.Contents.Source, ";base64,"); found {
			content, err := base64.StdEncoding.DecodeString(encoded)
			must(t, err)
			files[f.Path] = string(content)
		}
	}
	registries := files["/etc/containers/registries.conf"]
	for source, mirror := range map[string]string{sample.ReleaseRepository: "openshift/release-images", sample.ComponentRepository: "openshift/release"} {
		entry := regexp.MustCompile(`location = "` + regexp.QuoteMeta(s.source+"/"+source) + `"[^\[]*mirror-by-digest-only = true[^\[]*\[\[registry.mirror\]\][^\[]*location = "` + regexp.QuoteMeta(s.address+"/"+mirror) + `"`)
		if !entry.MatchString(registries) {
			t.Errorf("%s has no %s at %s:\n%s", ignition, source, mirror, registries)
		}
	}
	ca, err := os.ReadFile(s.cfg.TLS.CA)
	must(t, err)
	if !strings.Contains(files["/etc/pki/ca-trust/source/anchors/domain.crt"], strings.TrimSpace(string(ca))) {
		t.Errorf("the CA is %s", files["/etc/pki/ca-trust/source/anchors/domain.crt"])
	}
	if secret := files["/root/.docker/config.json"]; !strings.Contains(secret, `"`+s.address+`"`) || !strings.Contains(secret, cluster.NewAuth("puller", nodePassword)) {
		t.Errorf("the login is %s", secret)
	}
}
