package main

import (
	"net/http"
	"strings"
	"testing"
)

// Spec: oc-mirror 9.5.
func TestMirror_prune(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	two := s.rewriteV1(t, "mirror:\n  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci:v1'}]\n")
	mirror := func(line string) string {
		t.Helper()
		code, stdout, stderr := command(append([]string{"mirror", "--source-use-http", "--dest-use-http", "docker://" + s.destination, "-c"}, strings.Fields(line)...)...)
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", line, code, stdout, stderr)
		}
		return stdout + stderr
	}
	has := func() bool {
		t.Helper()
		response, err := http.Get("http://" + s.destination + "/v2/samples/oci/manifests/v1")
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return response.StatusCode == http.StatusOK
	}
	mirror(two)
	one := s.rewriteV1(t, "mirror:\n  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n")
	if out := mirror(one + " --prune --dry-run"); !strings.Contains(out, "would be deleted after the run: "+s.destination+"/samples/oci:v1") || !has() {
		t.Errorf("a dry run says\n%s", out)
	}
	mirror(one)
	if !has() {
		t.Error("a run without the flag has deleted")
	}
	if out := mirror(one + " --prune"); !strings.Contains(out, "deleted, since it is no longer asked for: docker://"+s.destination+"/samples/oci:v1") || has() {
		t.Errorf("a run says\n%s", out)
	}
	for line, want := range map[string]string{
		"file://x -c " + one:                             "--prune is for a registry",
		"docker://x --from file://y --partial -c " + one: "--prune and --partial cannot be used together",
	} {
		code, _, stderr := command(append([]string{"mirror", "--v2", "--prune"}, strings.Fields(line)...)...)
		if code != 1 || !strings.Contains(stderr, "error: "+want) {
			t.Errorf("mirror %s ends with %d: %s", line, code, stderr)
		}
	}
}
