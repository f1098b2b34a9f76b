package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDelete: what was mirrored is listed, then deleted, at a registry that is not ours.
//
// Spec: oc-mirror 3.10.
func TestDelete(t *testing.T) {
	s := newMirrorSetup(t)
	if code, _, stderr := s.mirror(t, []string{held, "samples/oci:v1"}); code != 0 {
		t.Fatal(stderr)
	}
	file := filepath.Join(t.TempDir(), "delete.yaml")
	text := "kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\ndelete:\n  additionalImages:\n  - name: " + s.source + "/" + held + "\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(flags ...string) (int, string, string) {
		var out, errs bytes.Buffer
		args := append([]string{"delete", "docker://" + s.destination, "--dest-tls-verify=false", "--retry-times", "1"}, flags...)
		code := execute(args, stdio{in: strings.NewReader(""), out: &out, err: &errs})
		return code, out.String(), errs.String()
	}
	workspace := "file://" + s.workspace
	code, stdout, stderr := run("--generate", "-c", file, "--workspace", workspace)
	if code != 0 {
		t.Fatal(stderr)
	}
	list := filepath.Join(s.workspace, "working-dir/delete/delete-images.yaml")
	says(t, stdout, "docker://"+s.destination+"/"+held+"\n", "1 image, of which 0 are not there", list, "is not known here (it is not an appliance)")
	for _, want := range []string{"deleted 1 image; 0 were not there", "deleted 0 images; 1 were not there"} {
		code, stdout, stderr = run("--delete-yaml-file", list)
		if code != 0 {
			t.Errorf("exit code %d: %s", code, stderr)
		}
		says(t, stdout, want, "Remember to execute a garbage collect")
	}
	code, stdout, _ = run("--generate", "-c", file, "--workspace", workspace, "-o", "json")
	says(t, stdout, `"absent": 1`)
	if code != 0 {
		t.Errorf("exit code %d", code)
	}
	code, _, stderr = run("--delete-yaml-file", list, "--gc")
	if code == 0 {
		t.Error("the space of a registry that is not an appliance is freed")
	}
	says(t, stderr, "the images are deleted, and their space is not freed", "hint: --gc is for an appliance")
}
