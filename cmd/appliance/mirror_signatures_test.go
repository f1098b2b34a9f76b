package main

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// release mirrors a release of the upstream, whose signatures are found at an address.
func (s *mirrorSetup) release(t *testing.T, signatures string, flags ...string) (code int, stdout, stderr string) {
	t.Helper()
	resp, err := http.Get("http://" + s.source + sample.SignatureKeyPath)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var key bytes.Buffer
	if _, err := key.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "imageset.yaml")
	set := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  platform:\n    channels: [{name: stable-4.18}]\n"
	for name, data := range map[string][]byte{file: []byte(set), file + ".key": key.Bytes()} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	t.Setenv("OCP_SIGNATURE_URL", signatures)
	if os.Getenv("OCP_SIGNATURE_VERIFICATION_PK") == "" {
		t.Setenv("OCP_SIGNATURE_VERIFICATION_PK", file+".key")
	}
	args := append([]string{"mirror", "-c", file, "docker://" + s.destination, "--workspace", "file://" + s.workspace,
		"--src-tls-verify=false", "--dest-tls-verify=false", "--retry-times", "0"}, flags...)
	var out, errs bytes.Buffer
	code = execute(args, stdio{in: strings.NewReader(""), out: &out, err: &errs})
	return code, out.String(), errs.String()
}

// Spec: oc-mirror 3.7.
func TestMirror_releaseSignatures(t *testing.T) {
	s := newMirrorSetup(t)
	at := "http://" + s.source + sample.SignaturesPath
	code, stdout, stderr := s.release(t, strings.TrimSuffix(at, "/"), "--signature-verification", "strict")
	if code != 0 || strings.Contains(stdout, "not signed") {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	says(t, stdout, "signature-configmap.yaml")
	s.workspace = filepath.Join(t.TempDir(), "without")
	code, stdout, stderr = s.release(t, at+"none/")
	if code != 0 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	says(t, stdout, "not signed: release 4.18.3-x86_64, "+s.source+"/openshift-release-dev/ocp-release@sha256:", "there is no signature of sha256:")
	code, stdout, _ = s.release(t, at+"none/", "--signature-verification=strict")
	if code != 2 {
		t.Errorf("exit code %d, want 2", code)
	}
	says(t, stdout, "it is not signed", "hint: --signature-verification best-effort")
	code, stdout, _ = s.release(t, at+"none/", "--ignore-release-signature", "--dry-run")
	if code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	says(t, stdout, "note: --ignore-release-signature is about platform.release", "not signed: ")
}

// Spec: oc-mirror 1.9.
func TestMirror_signatureSettingsThatAreWrong(t *testing.T) {
	s := newMirrorSetup(t)
	for _, tc := range []struct{ url, key, flag, want string }{
		{"mirror.example.com/signatures", "", "best-effort", `OCP_SIGNATURE_URL is "mirror.example.com/signatures", which is not an address`},
		{"", "/nonexistent", "best-effort", "OCP_SIGNATURE_VERIFICATION_PK=/nonexistent: no such file or directory"},
		{"", "/dev/null", "best-effort", "OCP_SIGNATURE_VERIFICATION_PK=/dev/null: it is not a regular file"},
		{"", "", "loose", `--signature-verification "loose" is unknown`},
	} {
		t.Setenv("OCP_SIGNATURE_VERIFICATION_PK", tc.key)
		code, _, stderr := s.release(t, tc.url, "--signature-verification", tc.flag)
		if code != 1 {
			t.Errorf("exit code %d, want 1", code)
		}
		says(t, stderr, tc.want, "hint: ")
	}
	t.Setenv("OCP_SIGNATURE_VERIFICATION_PK", "")
	t.Setenv("UPDATE_URL_OVERRIDE", "mirror.example.com/graph")
	code, _, stderr := s.mirror(t, []string{held})
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	says(t, stderr, `UPDATE_URL_OVERRIDE is "mirror.example.com/graph", which is not an address`, "hint: ")
	t.Setenv("UPDATE_URL_OVERRIDE", "")
	code, _, stderr = s.release(t, "", "--signature-verification=strict", "--remove-signatures")
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	says(t, stderr, "--remove-signatures and --signature-verification strict cannot be used together")
	if _, err := os.Stat(s.workspace); err == nil {
		t.Error("something is written to the workspace")
	}
}

// Spec: oc-mirror 3.8.
func TestMirror_securePolicy(t *testing.T) {
	s := newMirrorSetup(t)
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy.json")
	if err := os.WriteFile(policy, []byte(`{"default":[{"type":"reject"}]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := s.mirror(t, []string{held}, "--policy", policy)
	if code != 0 {
		t.Errorf("exit code %d\n%s%s", code, stdout, stderr)
	}
	says(t, stdout, "note: --policy and --registries.d change nothing without --secure-policy")
	code, stdout, _ = s.mirror(t, []string{held}, "--policy", policy, "--secure-policy", "--registries.d", dir)
	if code != 8 {
		t.Errorf("exit code %d, want 8\n%s", code, stdout)
	}
	says(t, stdout, "failed: "+s.source+"/"+held, "the policy rejects the image", "hint: ")
	code, _, stderr = s.mirror(t, []string{held}, "--policy", policy, "--secure-policy", "--registries.d", filepath.Join(dir, "none"))
	if code != 1 {
		t.Errorf("exit code %d, want 1", code)
	}
	says(t, stderr, "registries.d: ", "no such file or directory")
}
