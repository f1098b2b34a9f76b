//go:build oc

package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// oc, which must be on PATH, reads a release at the appliance by install.sh, and a component of it
// by the name that the payload has and the mirrors of the directory, with the login of the nodes.
// The source is gone.
func TestOC_clusterConfig(t *testing.T) {
	s := newClusterSite(t)
	dir, work := filepath.Join(s.dir, "a cluster's files"), filepath.Join(s.dir, "work")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64")
	s.upstream.Close()
	run := func(args ...string) (int, string) {
		c := exec.Command(args[0], args[1:]...)
		c.Dir = t.TempDir()
		c.Env = append(os.Environ(), "HOME="+s.dir, "WORK="+work, "SSL_CERT_FILE="+dir+"/ca-bundle.pem")
		code, stdout, stderr := outcome(t, c)
		return code, stdout + stderr
	}
	script, err := os.ReadFile(filepath.Join(dir, "install.sh"))
	must(t, err)
	release := regexp.MustCompile(`RELEASE:-'([^']+)'`).FindSubmatch(script)
	if release == nil {
		t.Fatalf("no release in\n%s", script)
	}
	must(t, os.MkdirAll(work, 0o755))
	must(t, os.WriteFile(filepath.Join(work, "openshift-install"), []byte("#!/bin/sh\necho release image "+string(release[1])+"\n"), 0o755))
	if code, said := run(filepath.Join(dir, "install.sh"), "check"); code != 0 || !strings.Contains(said, "Name:      4.18.2") {
		t.Errorf("the check ends with %d\n%s", code, said)
	}
	if code, said := run(filepath.Join(dir, "install.sh"), "rhcos"); code != 0 {
		t.Errorf("the boot image: %d\n%s", code, said)
	}
	options := []string{"--registry-config=" + dir + "/pull-secret.json", "--idms-file=" + dir + "/oc/idms.yaml"}
	code, image := run(append([]string{"oc", "adm", "release", "info", "--image-for=etcd", string(release[1])}, options...)...)
	if image = strings.TrimSpace(image); code != 0 || !strings.HasPrefix(image, s.source+"/") {
		t.Fatalf("the component is %s", image)
	}
	to := t.TempDir()
	code, said := run(append([]string{"oc", "image", "extract", "--path=/usr/bin/etcd:" + to, "--confirm", image}, options...)...)
	if _, err := os.Stat(filepath.Join(to, "etcd")); code != 0 || err != nil {
		t.Errorf("oc extracts with %d\n%s%v", code, said, err)
	}
}
