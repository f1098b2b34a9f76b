package main_test

import (
	"crypto/ed25519"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/ssh"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// A release that is here is ready, with and without a daemon; what is missing comes with the image set that
// ready prints.
func TestReady(t *testing.T) {
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	t.Setenv("OCP_SIGNATURE_URL", "http://"+s.source+"/nowhere/")
	at := []string{"ready", "docker://" + s.address, "--dest-creds", "admin:" + faultPassword}
	s.mirror(t, s.set(t, "set.yaml", "  platform:\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]\n"))
	code, out, said := s.run(t, append(at, "--to", "4.18.1")...)
	if code != 4 || !strings.Contains(said, "not ready: 1 reason") {
		t.Fatalf("without the key of releases: %d, %s%s", code, out, said)
	}
	contains(t, out, "no: OpenShift 4.18.1 for amd64 cannot be installed from ", "- release-unsigned: its OpenPGP signature is not here", "  hint: ")

	key := filepath.Join(s.dir, "key.asc")
	must(t, os.WriteFile(key, s.fetch(t, sample.SignatureKeyPath), 0o600))
	t.Setenv("OCP_SIGNATURE_URL", "http://"+s.source+sample.SignaturesPath)
	t.Setenv("OCP_SIGNATURE_VERIFICATION_PK", key)
	s.mirror(t, s.set(t, "set.yaml", "  platform:\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]\n"))
	contains(t, s.works(t, append(at, "--to", "4.18.1")...), "yes: OpenShift 4.18.1 for amd64 can be installed from "+s.address+"\n", "; --content reads the blobs too\n")
	var v api.Verdict
	must(t, json.Unmarshal([]byte(s.works(t, append(at, "--to", "4.18.1-x86_64", "--content", "-o", "json")...)), &v))
	if v.Answer != api.ReadyYes || !v.ContentRead || v.Basis.Releases[0].Image != "openshift/release-images:4.18.1-x86_64" {
		t.Errorf("the verdict is %+v", v)
	}

	s.sealed(t, at)
	code, out, said = s.run(t, append(at, "--to", "4.18.2", "--as-imageset")...)
	if code != 4 || !strings.Contains(said, "not ready: 1 reason") {
		t.Fatalf("what is missing: %d, %s%s", code, out, said)
	}
	missing := filepath.Join(s.dir, "missing.yaml")
	must(t, os.WriteFile(missing, []byte(out), 0o600))
	s.mirror(t, missing)
	s.stop(t)
	contains(t, s.works(t, "ready", "--quayRoot", s.root, "--to", "4.18.2"), "yes: OpenShift 4.18.2")
	for want, args := range map[string][]string{
		"--to is missing":                     {},
		"\"4.18\" is not a release":           {"--to", "4.18"},
		"\"x86\" is not an architecture":      {"--to", "4.18.1", "--arch", "x86"},
		"there is no armored public key":      {"--to", "4.18.1", "--release-key", missing},
		"the key of releases /nowhere/at/all": {"--to", "4.18.1", "--release-key", "/nowhere/at/all"},
		"the key of releases " + s.dir + ": ": {"--to", "4.18.1", "--release-key", s.dir},
		"--as-imageset prints YAML":           {"--to", "4.18.1", "--as-imageset", "-o", "json"},
		"--as-imageset and --sign":            {"--to", "4.18.1", "--as-imageset", "--sign", missing},
	} {
		code, _, said := s.run(t, append([]string{"ready", "--quayRoot", s.root}, args...)...)
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("%q: %d, %s", args, code, said)
		}
	}
}

// An upgrade is judged by the graph, and by what the cluster has told of itself.
func TestReady_upgrade(t *testing.T) {
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	at := []string{"ready", "docker://" + s.address, "--dest-creds", "admin:" + faultPassword}
	t.Setenv("OCP_SIGNATURE_URL", "http://"+s.source+"/nowhere/")
	s.mirror(t, s.set(t, "set.yaml", "  platform:\n    channels: [{name: stable-4.17, full: true}]\n"))
	code, out, _ := s.run(t, append(at, "--from", "4.16.2", "--to", "4.17.2")...)
	if code != 4 {
		t.Fatalf("without graph data: %d, %s", code, out)
	}
	contains(t, out, "no: OpenShift 4.17.2 for amd64 cannot be reached from 4.16.2 with ", "- graph-absent: there is no graph data here")

	file := filepath.Join(s.dir, "graph-data")
	must(t, os.WriteFile(file, s.fetch(t, sample.GraphDataPath), 0o600))
	s.works(t, "updates", "load", file, "docker://"+s.address, "--dest-creds", "admin:"+faultPassword)
	code, out, _ = s.run(t, append(at, "--from", "4.16.2", "--to", "4.17.2")...)
	if code != 4 {
		t.Fatalf("without signatures: %d, %s", code, out)
	}
	contains(t, out, "channel stable-4.17: 4.16.2 → 4.17.2\n", "- release-unsigned", "- operators-unknown: ")

	cluster := filepath.Join(s.dir, "cluster.json")
	must(t, os.WriteFile(cluster, []byte(`{"items":[{"kind":"ClusterVersion","apiVersion":"config.openshift.io/v1","metadata":{"name":"version"},"spec":{"channel":"stable-4.17"},"status":{"history":[{"state":"Completed","version":"4.16.2"}]}},
		{"kind":"ClusterServiceVersion","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"a","name":"b.v1"}}]}`), 0o600))
	code, out, _ = s.run(t, append(at, "--to", "4.17.2", "--cluster-state", cluster)...)
	if code != 4 {
		t.Fatalf("of a cluster without mirrors: %d, %s", code, out)
	}
	contains(t, out, "- unmapped: ", "- operator-unsubscribed: ", "  a/b.v1\n")
	for want, args := range map[string][]string{
		"runs 4.16.2, and not 4.16.1":       {"--cluster-state", cluster, "--from", "4.16.1"},
		"the export of the cluster":         {"--cluster-state", file},
		"open /nowhere":                     {"--cluster-state", "/nowhere"},
		"4.17.2 is no update of 4.18.1":     {"--from", "4.18.1"},
		`"4" is not a version that a clust`: {"--from", "4"},
	} {
		code, _, said := s.run(t, append(append(at, "--to", "4.17.2"), args...)...)
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("%q: %d, %s", args, code, said)
		}
	}
}

// sealed has a verdict signed, and checked until the release is gone.
func (s *site) sealed(t *testing.T, at []string) {
	t.Helper()
	key, verdict, signers := filepath.Join(s.dir, "id"), filepath.Join(s.dir, "verdict.json"), filepath.Join(s.dir, "signers")
	public, private, err := ed25519.GenerateKey(nil)
	must(t, err)
	block, err := ssh.MarshalPrivateKey(private, "")
	must(t, err)
	must(t, os.WriteFile(key, pem.EncodeToMemory(block), 0o600))
	of, err := ssh.NewPublicKey(public)
	must(t, err)
	must(t, os.WriteFile(signers, append([]byte("ops "), ssh.MarshalAuthorizedKey(of)...), 0o600))
	must(t, os.WriteFile(verdict, []byte(s.works(t, append(at, "--to", "4.18.1", "--sign", key)...)), 0o600))
	contains(t, s.works(t, append(at, "--check", verdict)...), "signed by key SHA256:", "which was not compared with any", "are here as they were\n", "yes: OpenShift 4.18.1")
	contains(t, s.works(t, append(at, "--check", verdict, "--allowed-signers", signers)...), "signed by ops, key SHA256:")
	for want, args := range map[string][]string{
		"it is no verdict":                 {"--check", signers},
		"the verdict " + s.dir + ": ":      {"--check", s.dir},
		"the allowed signers " + s.dir:     {"--check", verdict, "--allowed-signers", s.dir},
		"leave out --channel":              {"--check", verdict, "--channel", "stable-4.18"},
		"--check takes a verdict as it is": {"--check", verdict, "--to", "4.18.1"},
		"--allowed-signers is for --check": {"--allowed-signers", signers, "--to", "4.18.1"},
		"none of the allowed signers":      {"--check", verdict, "--allowed-signers", verdict},
		"the key that signs: " + s.dir:     {"--to", "4.99.1", "--sign", signers + ".none"}, // before the release is looked for
	} {
		code, _, said := s.run(t, append(at, args...)...)
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("%q: %d, %s", args, code, said)
		}
	}
	changed, err := os.ReadFile(verdict)
	must(t, err)
	other := filepath.Join(s.dir, "other.json")
	must(t, os.WriteFile(other, []byte(strings.Replace(string(changed), "sha256:", "sha256:0", 1)), 0o600))
	if code, _, said := s.run(t, append(at, "--check", other)...); code != 1 || !strings.Contains(said, "its signature") {
		t.Errorf("a verdict that was changed: %d, %s", code, said)
	}
	var sealed struct{ Verdict json.RawMessage }
	must(t, json.Unmarshal(changed, &sealed))
	var v api.Verdict
	must(t, json.Unmarshal(sealed.Verdict, &v))
	v.Basis.Releases[0].Digest = "sha256:" + digest.Digest(strings.Repeat("0", 64))
	text, err := json.Marshal(v)
	must(t, err)
	must(t, os.WriteFile(other, text, 0o600))
	code, out, said := s.run(t, append(at, "--check", other)...)
	if code != 4 || !strings.Contains(said, "does not hold any more: 1 reason") {
		t.Errorf("a release that is gone: %d, %s", code, said)
	}
	contains(t, out, "it is not signed\n", "- release-changed: ")
}

// fetch gets a file of the source.
func (s *site) fetch(t *testing.T, path string) []byte {
	t.Helper()
	resp, err := http.Get("http://" + s.source + path)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return text
}
