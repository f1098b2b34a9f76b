package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// newOther is another appliance with an image of a source, and the file with the login of its nodes.
func (s *site) newOther(t *testing.T, image, password string) (other *site, secret string) {
	t.Helper()
	other = newSite(t)
	other.mirror(t, image)
	_, err := other.admin.CreateUser(t.Context(), api.NewUser{Name: "puller", Role: "pull", Password: password})
	must(t, err)
	secret = filepath.Join(other.dir, "pull-secret.json")
	other.secret(t, secret, "puller", password)
	return other, secret
}

// The second appliance is asked when the first is gone: with its CA, and its login.
func TestClusterConfig_secondAppliance(t *testing.T) {
	s, other := newClusterSite(t), newSite(t)
	image := s.set(t, "one.yaml", "  additionalImages: [{name: HOST/samples/docker:v1}]\n")
	other.mirror(t, image)
	ca, secret := other.cfg.TLS.CA, filepath.Join(s.dir, "other.json")
	_, err := other.admin.CreateUser(t.Context(), api.NewUser{Name: "puller", Role: "pull", Password: nodePassword})
	must(t, err)
	other.secret(t, secret, "puller", nodePassword)
	dir := filepath.Join(s.dir, "out")
	code, _, stderr := s.run(t, "cluster-config", "--quayRoot", s.root, "--dir", dir, "--arch", "multi", "--also", other.address, "--also-ca", s.cfg.TLS.CA, "--also-pull-secret", secret)
	if code != 1 || !strings.Contains(stderr, "nodes would not trust "+other.address) || !strings.Contains(stderr, "--also-ca FILE; nothing was written") {
		t.Errorf("with the CA of the first: exit code %d, %s", code, stderr)
	}
	a := s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "multi", "--also", other.address, "--also-ca", ca, "--also-pull-secret", secret)
	if !strings.Contains(strings.Join(a.Warnings, "\n"), "only "+s.address+" is asked") {
		t.Errorf("it warns %q", a.Warnings)
	}
	sources, _ := installSources(t, dir)
	if want := s.address + "/openshift/release " + other.address + "/openshift/release"; sources[s.source+"/"+sample.ComponentRepository] != want {
		t.Errorf("the sources are %v", sources)
	}
	s.upstream.Close()
	s.stop(t)
	must(t, s.socket.Close())
	if code, said := s.reads(t, dir, image); code != 0 {
		t.Errorf("with the first gone: %d\n%s", code, said)
	}
	other.stop(t)
	must(t, other.socket.Close())
	if code, _ := s.reads(t, dir, image); code == 0 {
		t.Error("it is read with both gone")
	}
}

// A third appliance is asked when both others are gone: the files with CAs and with logins may be named in any
// order, and each appliance gets its own.
func TestClusterConfig_thirdAppliance(t *testing.T) {
	s := newClusterSite(t)
	image := s.set(t, "one.yaml", "  additionalImages: [{name: HOST/samples/docker:v1}]\n")
	second, secret2 := s.newOther(t, image, nodePassword+"2")
	third, secret3 := s.newOther(t, image, nodePassword+"3")
	dir := filepath.Join(s.dir, "out")
	args := []string{"--quayRoot", s.root, "--dir", dir, "--arch", "multi", "--also", second.address, "--also", third.address,
		"--also-ca", third.cfg.TLS.CA, "--also-ca", second.cfg.TLS.CA}
	code, _, stderr := s.run(t, append([]string{"cluster-config", "--also-pull-secret", secret3}, args...)...)
	if code != 1 || !strings.Contains(stderr, "for "+second.address+": it has no login for it") {
		t.Errorf("without the login for the second: exit code %d, %s", code, stderr)
	}
	s.config(t, append(args, "--also-pull-secret", secret3, "--also-pull-secret", secret2)...)
	sources, secret := installSources(t, dir)
	const path = "/openshift/release-images"
	if want := s.address + path + " " + second.address + path + " " + third.address + path; sources[s.source+"/"+sample.ReleaseRepository] != want {
		t.Errorf("the sources are %v", sources)
	}
	for address, password := range map[string]string{s.address: nodePassword, second.address: nodePassword + "2", third.address: nodePassword + "3"} {
		if auth, _, err := cluster.Auth([]byte(secret), address); err != nil || auth != cluster.NewAuth("puller", password) {
			t.Errorf("the login for %s is %q, %v", address, auth, err)
		}
	}
	s.upstream.Close()
	for _, one := range []*site{s, second} {
		one.stop(t)
		must(t, one.socket.Close())
	}
	if code, said := s.reads(t, dir, image); code != 0 {
		t.Errorf("with the first and the second gone: %d\n%s", code, said)
	}
}

// What asks an appliance for updates keeps the CAs of the others.
func TestUpdatesClusterConfig_also(t *testing.T) {
	s, other := newSite(t), newSite(t)
	text := s.works(t, "updates", "cluster-config", "--quayRoot", s.root, "--also", other.address, "--also-ca", other.cfg.TLS.CA)
	for _, one := range []*site{s, other} {
		ca, err := os.ReadFile(one.cfg.TLS.CA)
		must(t, err)
		contains(t, strings.ReplaceAll(text, "    ", ""), strings.TrimSpace(string(ca)))
	}
	contains(t, text, "upstream: https://"+s.address+"/api/upgrades_info/v1/graph\n")
	if code, _, stderr := s.run(t, "updates", "cluster-config", "--quayRoot", s.root, "--also-ca", other.cfg.TLS.CA); code != 1 || !strings.Contains(stderr, "--also is missing") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
}

// reads reads an image set with the files of a directory, as podman would.
func (s *site) reads(t *testing.T, dir, set string) (code int, said string) {
	t.Helper()
	c := exec.Command(s.program, "mirror", "-c", set, "file://"+t.TempDir(), "--retry-times", "0")
	c.Env = append(os.Environ(), "HOME="+s.dir, "SSL_CERT_FILE="+dir+"/ca-bundle.pem", "REGISTRY_AUTH_FILE="+dir+"/pull-secret.json",
		"CONTAINERS_REGISTRIES_CONF="+dir+"/registries.conf")
	code, stdout, stderr := outcome(t, c)
	return code, stdout + stderr
}
