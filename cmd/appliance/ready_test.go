package main_test

import (
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

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
	resp, err := http.Get("http://" + s.source + sample.SignatureKeyPath)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, os.WriteFile(key, text, 0o600))
	t.Setenv("OCP_SIGNATURE_URL", "http://"+s.source+sample.SignaturesPath)
	t.Setenv("OCP_SIGNATURE_VERIFICATION_PK", key)
	s.mirror(t, s.set(t, "set.yaml", "  platform:\n    channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.1}]\n"))
	contains(t, s.works(t, append(at, "--to", "4.18.1")...), "yes: OpenShift 4.18.1 for amd64 can be installed from "+s.address+"\n", "; --content reads the blobs too\n")
	var v api.Verdict
	must(t, json.Unmarshal([]byte(s.works(t, append(at, "--to", "4.18.1-x86_64", "--content", "-o", "json")...)), &v))
	if v.Answer != api.ReadyYes || !v.ContentRead || v.Basis.Releases[0].Image != "openshift/release-images:4.18.1-x86_64" {
		t.Errorf("the verdict is %+v", v)
	}

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
	} {
		code, _, said := s.run(t, append([]string{"ready", "--quayRoot", s.root}, args...)...)
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("%q: %d, %s", args, code, said)
		}
	}
}
