package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// TestDelete_appliance: an appliance takes children along, and frees the space in the same command.
func TestDelete_appliance(t *testing.T) {
	f := newFaulty(t, "")
	f.begin(t)
	_, source := newUpstream(t)
	dir := t.TempDir()
	write := func(kind, section string, images ...string) string {
		text := "kind: " + kind + "\napiVersion: mirror.openshift.io/v2alpha1\n" + section + ":\n  additionalImages:\n"
		for _, i := range images {
			text += "  - name: " + source + "/" + i + "\n"
		}
		path := filepath.Join(dir, section+".yaml")
		must(t, os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	run := func(args ...string) string {
		t.Helper()
		args = append(args, "docker://"+f.socket.Name(), "--src-tls-verify=false", "--dest-tls-verify=false", "--dest-creds", "init:"+faultPassword)
		out, err := exec.Command(f.program, args...).CombinedOutput()
		if err != nil {
			t.Fatalf("%q: %v\n%s", args, err, out)
		}
		return string(out)
	}
	workspace := "file://" + filepath.Join(dir, "ws")
	run("mirror", "-c", write("ImageSetConfiguration", "mirror", "samples/docker-multi:v1", "samples/docker:v1"), "--workspace", workspace)
	run("delete", "--generate", "-c", write("DeleteImageSetConfiguration", "delete", "samples/docker-multi:v1"), "--workspace", workspace)
	out := run("delete", "--delete-yaml-file", filepath.Join(dir, "ws/working-dir/delete/delete-images.yaml"), "--gc")
	if !strings.Contains(out, "deleted 1 image; 0 were not there") || !strings.Contains(out, "freed 541 KiB") {
		t.Errorf("it says\n%s", out)
	}
	tags, digests := map[string]bool{}, 0
	must(t, f.admin.Inventory(t.Context(), func(i api.Inventory) {
		digests += len(i.Digests)
		for _, tag := range i.Tags {
			tags[tag.Repository] = true
		}
	}))
	if tags["samples/docker-multi"] || !tags["samples/docker"] {
		t.Errorf("the registry has %v", tags)
	}
	if digests != 3 { // the config and the layers of the image that stays
		t.Errorf("%d digests are left", digests)
	}
}
