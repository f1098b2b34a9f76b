package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/config"
)

// doctor looks as a node does, and returns what has failed.
func (s *site) doctor(t *testing.T, args ...string) (failed []finding.Finding) {
	t.Helper()
	code, stdout, stderr := s.run(t, append([]string{"doctor", "--as-node", "-o", "json"}, args...)...)
	var all []finding.Finding
	if err := json.Unmarshal([]byte(stdout), &all); err != nil || len(all) == 0 {
		t.Fatalf("%q: exit code %d, %v\n%s%s", args, code, err, stdout, stderr)
	}
	for _, f := range all {
		if f.Level == finding.Failed {
			failed = append(failed, f)
		}
	}
	if (code == 0) != (len(failed) == 0) || strings.Contains(stdout+stderr, nodePassword) {
		t.Errorf("%q: exit code %d\n%s%s", args, code, stdout, stderr)
	}
	return failed
}

// What is whole is told so, from the appliance's own host and from elsewhere by each kind of file.
func TestDoctor_asNode(t *testing.T) {
	s := newClusterSite(t)
	stdout := s.works(t, "doctor", "--as-node", "--quayRoot", s.root)
	for _, tag := range []string{"4.18.1-x86_64", "4.18.2-multi"} {
		contains(t, stdout, "ok       release     "+s.address+"/openshift/release-images:"+tag, "ok       mirrors     "+tag+": each image has a mirror\n",
			"ok       boot image  "+tag+": coreos/coreos-", "ok       signatures  "+tag+": all ")
	}
	contains(t, stdout, "warning  name        "+s.address+": localhost is ", "hint: ", "ok       certificate "+s.address, "ok       clock       "+s.address, "ok       login       "+s.address+": user puller\n")

	dir := filepath.Join(s.dir, "dir")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64")
	s.upstream.Close()
	stdout = s.works(t, "doctor", "--as-node", "--from", dir)
	if n := strings.Count(stdout, " release "); n != 1 {
		t.Errorf("of a directory %d releases are looked at\n%s", n, stdout)
	}
	contains(t, stdout, "OpenShift 4.18.2 with 9 images")
	for _, args := range [][]string{
		{"--from", dir + "/install-config.yaml"},
		{"--from", dir + "/registries.conf", "--pull-secret", dir + "/pull-secret.json", "--ca", dir + "/ca-bundle.pem"},
		{"--from", dir, "--release", s.address + "/openshift/release-images:4.18.1-multi", "--arch", "aarch64"},
		{"--from", dir, "--release", s.source + "/openshift-release-dev/ocp-release:4.18.1-aarch64"},
	} {
		if failed := s.doctor(t, args...); len(failed) > 0 {
			t.Errorf("%q: %+v", args, failed)
		}
	}
}

// Each thing that a node fails at is named, with what to do.
func TestDoctor_asNode_failures(t *testing.T) {
	s, empty := newClusterSite(t), newSite(t)
	dir := filepath.Join(s.dir, "dir")
	s.config(t, "--quayRoot", s.root, "--dir", dir, "--arch", "x86_64")
	file := filepath.Join(dir, "install-config.yaml")
	text, err := os.ReadFile(file)
	must(t, err)
	change := func(old, with string) string {
		t.Helper()
		if !strings.Contains(string(text), old) {
			t.Fatalf("no %q in\n%s", old, text)
		}
		return s.file(t, "install-config.yaml", strings.ReplaceAll(string(text), old, with))
	}
	const release = ":4.18.2-x86_64"
	named := []string{"--release", s.address + "/openshift/release-images" + release}
	expect := func(args []string, check, want string) {
		t.Helper()
		failed := s.doctor(t, args...)
		if len(failed) == 0 || failed[0].Check != check || !strings.Contains(failed[0].Text, want) || failed[0].Hint == "" {
			t.Errorf("%q: %+v, want %s: %s", args, failed, check, want)
		}
	}
	from := func(file string) []string { return append([]string{"--from", file}, named...) }
	expect(from(change("localhost:", "no-such-host.invalid:")), "name", "no-such-host.invalid")
	expect(from(change(s.address, "localhost:1")), "certificate", "refused")
	contains(t, s.works(t, append(append([]string{"doctor", "--as-node"}, from(file)...), "--ca", empty.cfg.TLS.CA)...), "warning  certificate "+s.address+": this host trusts it, and the CAs that nodes get do not have ")
	other := exec.Command(s.program, append(append([]string{"doctor", "--as-node"}, from(file)...), "--ca", empty.cfg.TLS.CA)...)
	other.Env = append(os.Environ(), "HOME="+s.dir) // of which the system does not trust the appliance's CA
	if code, stdout, _ := outcome(t, other); code != 1 || !strings.Contains(stdout, "FAILED   certificate "+s.address+": ") || !strings.Contains(stdout, "unknown authority") || !strings.Contains(stdout, "hint: put the CA that has signed it into additionalTrustBundle") {
		t.Errorf("with another CA: exit code %d\n%s", code, stdout)
	}
	expect(from(change(s.address, strings.Replace(s.address, "localhost", "127.0.0.1", 1))), "certificate", "IP SANs")
	expect(append(from(file), "--pull-secret", s.file(t, "wrong.json", s.login("puller", "wrong-password"))), "login", "401")
	expect(append(from(file), "--pull-secret", s.file(t, "none.json", `{"auths":{}}`)), "login", "has no login for it")
	expect(from(change("ocp-v4.0-art-dev", "elsewhere")), "mirrors", "no mirror is named for "+s.source+"/openshift-release-dev/ocp-v4.0-art-dev")
	expect([]string{"--from", file, "--release", s.address + "/openshift/release-images:4.17.0-x86_64"}, "release", "MANIFEST_UNKNOWN")
	expect([]string{"--from", file, "--release", s.address + "/samples/docker:v1"}, "release", "no release payload")

	reader := append(from(file), "--arch", "aarch64")
	expect(reader, "boot image", "machine-os-images has no coreos/coreos-aarch64.iso")

	for name, other := range map[string]string{
		"pull-secret.json":    s.login("puller", "wrong-password"),
		"ca-bundle.pem":       "",
		"oc/idms.yaml":        "kind: ImageDigestMirrorSet\nspec: {imageDigestMirrors: []}\n",
		"openshift/idms.yaml": "kind: ImageDigestMirrorSet\nspec: {imageDigestMirrors: [{source: quay.io, mirrors: [a.example.com]}]}\n",
	} {
		was, err := os.ReadFile(filepath.Join(dir, name))
		must(t, err)
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(other), 0o600))
		failed := s.doctor(t, "--from", dir)
		if len(failed) == 0 || !strings.Contains(failed[0].Text+failed[0].Subject, name) {
			t.Errorf("%s is another: %+v", name, failed)
		}
		must(t, os.WriteFile(filepath.Join(dir, name), was, 0o600))
	}

	etcd := s.component(t, release[1:]+"-etcd")
	if a, err := s.ask(t.Context(), http.MethodDelete, "/v2/openshift/release/manifests/"+etcd, nil); err != nil || a.status != http.StatusAccepted {
		t.Fatal(a.status, err)
	}
	expect(from(file), "images", "etcd: ")
	expect([]string{"--quayRoot", s.root}, "images", "etcd: ")

	empty.secret(t, filepath.Join(filepath.Dir(config.Path(empty.root)), "pull-secret.json"), "init", faultPassword)
	failed := empty.doctor(t, "--quayRoot", empty.root)
	if len(failed) != 1 || failed[0].Check != "release" || !strings.Contains(failed[0].Text, "no mirror has a release") {
		t.Errorf("without a release: %+v", failed)
	}
	for want, args := range map[string][]string{
		"is for --as-node":                       {"doctor", "--from", s.dir},
		"is not an architecture of hosts":        {"doctor", "--as-node", "--arch", "amd64"},
		"no such file":                           {"doctor", "--as-node", "--from", s.dir + "/none"},
		"there is no install-config.yaml in it":  {"doctor", "--as-node", "--from", t.TempDir()},
		"neither pullSecret nor imageDigestSour": {"doctor", "--as-node", "--from", s.file(t, "other.yaml", "a: b\n")},
		"not a registries.conf":                  {"doctor", "--as-node", "--from", s.file(t, "bad.conf", "{")},
	} {
		if code, _, stderr := s.run(t, args...); code != 1 || !strings.Contains(stderr, want) || !strings.Contains(stderr, "hint: ") && want != "not a registries.conf" {
			t.Errorf("%q: exit code %d, %s", args, code, stderr)
		}
	}
}

// component returns the digest of a tag of components.
func (s *site) component(t *testing.T, tag string) string {
	t.Helper()
	a, err := s.ask(t.Context(), http.MethodHead, "/v2/openshift/release/manifests/"+tag, nil, "Accept", "*/*")
	must(t, err)
	return a.header.Get("Docker-Content-Digest")
}
