//go:build e2e

package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestMedium gives a host that has nothing all of it by one medium, twice, as docs/medium.md says.
func TestMedium(t *testing.T) {
	t.Parallel()
	b := newBox(t, "medium")
	b.inside(t, "rm", "/root/appliance")
	must(t, os.WriteFile(filepath.Join(b.home, "auth.json"), []byte("{}"), 0o600))
	upstream, stop := b.sampleUpstream(t)
	set, medium := filepath.Join(b.home, "imageset.yaml"), filepath.Join(b.home, "medium")
	bundle := func(images, file string) {
		t.Helper()
		text := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n  - catalog: " + upstream +
			"/redhat/redhat-operator-index:v4.18\n    packages: [{name: sample-logging}]\n  additionalImages:\n"
		for _, image := range strings.Fields(images) {
			text += "  - name: " + upstream + "/" + image + "\n"
		}
		must(t, os.WriteFile(set, []byte(text), 0o600))
		must(t, os.WriteFile(filepath.Join(b.home, "tool"), []byte(file), 0o600))
		must(t, os.WriteFile(filepath.Join(b.home, "files.yaml"), []byte("files:\n- path: tool\n"), 0o600))
		b.must(t, "outside", filepath.Join(b.bin, "appliance"), "bundle", "-c", set, "file://"+medium, "--src-tls-verify=false")
		b.inside(t, "rm", "-rf", "/media/usb")
		b.must(t, "push", medium, "/media/usb")
		b.inside(t, "rm", "-rf", "/media/usb/working-dir")
	}
	// fetched pulls what arrived, with the tools of clients.
	fetched := func(password, image, file string) {
		t.Helper()
		b.must(t, b.podman("pull", "-q", "--creds", "init:"+password, "--cert-dir", b.certs(), "docker://"+registryAddress+"/"+image)...)
		out := b.must(t, "outside", "curl", "-fsS", "--cacert", filepath.Join(b.certs(), "ca.crt"), "-u", "init:"+password, "https://"+registryAddress+"/files/tool")
		if out != file {
			t.Errorf("/files/tool is %q, want %q", out, file)
		}
	}

	bundle("samples/oci-multi:v1", "first")
	stop()
	b.must(t, "exec", "/media/usb/appliance", "unbundle", "--dry-run", "/media/usb")
	b.inside(t, "test", "!", "-e", "/root/quay-install")
	b.inside(t, "mount", "--bind", "-o", "ro", "/media/usb", "/media/usb")
	out := b.inside(t, "/media/usb/appliance", "unbundle", "--install", "--quayHostname", boxHost, "/media/usb")
	m := installLine.FindStringSubmatch(out)
	if m == nil {
		t.Fatalf("unbundle --install says:\n%s", out)
	}
	b.inside(t, "umount", "/media/usb")
	b.trust(t)
	b.healthy(t)
	fetched(m[3], "samples/oci-multi:v1", "first")
	b.inside(t, "test", "-f", "/root/appliance-mirror/working-dir/cluster-resources/cs-redhat-operator-index-v4-18.yaml")

	_, stop = b.sampleUpstream(t)
	bundle("samples/oci-multi:v1 samples/docker:v1", "second")
	stop()
	b.inside(t, "/media/usb/appliance", "unbundle", "/media/usb")
	fetched(m[3], "samples/docker:v1", "second")
	fetched(m[3], "redhat/redhat-operator-index:v4.18", "second")
}
