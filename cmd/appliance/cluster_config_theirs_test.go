package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// theirConfig writes an install-config.yaml with a mirror of the user's own: its CA, a login and a
// source.
func (s *site) theirConfig(t *testing.T, own *site) (file string) {
	t.Helper()
	ca, err := os.ReadFile(own.cfg.TLS.CA)
	must(t, err)
	return s.file(t, "theirs.yaml", "apiVersion: v1\nbaseDomain: example.com\nmetadata: {name: prod}\npullSecret: '"+own.login("pull", faultPassword)+
		"'\nimageDigestSources:\n- source: corp.example.com/x\n  mirrors: ["+own.address+"/x]\nadditionalTrustBundle: |\n  "+
		strings.ReplaceAll(strings.TrimSpace(string(ca)), "\n", "\n  ")+"\n")
}

// A directory with what the user's own install-config.yaml has besides is whole, until it is changed.
func TestDoctor_asNode_ownInstallConfig(t *testing.T) {
	s, own := newClusterSite(t), newSite(t)
	dir := filepath.Join(s.dir, "dir")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64", "--install-config", s.theirConfig(t, own))
	if failed := s.doctor(t, "--from", dir); len(failed) > 0 {
		t.Errorf("%+v", failed)
	}
	contains(t, s.works(t, "doctor", "--as-node", "--from", dir), "ok       login       "+own.address+": user pull\n")
	s.config(t, "--quayRoot", s.root, "--dir", dir+"2", "--arch", "x86_64")
	for _, name := range []string{"ca-bundle.pem", "pull-secret.json", "oc/idms.yaml"} {
		was, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		without, err := os.ReadFile(filepath.Join(dir+"2", name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), without, 0o600))
		if failed := s.doctor(t, "--from", dir); len(failed) != 1 || !strings.Contains(failed[0].Text+failed[0].Subject, name) {
			t.Errorf("%s is that without the user's: %+v", name, failed)
		}
		must(t, os.WriteFile(filepath.Join(dir, name), was, 0o600))
	}
}
