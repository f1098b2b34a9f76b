//go:build e2e

package main_test

import (
	"fmt"
	"strings"
	"testing"
)

// mirrorsBySchedule has the service mirror an image set, below home directories that it does not
// see otherwise, from a registry without TLS that registries.conf allows.
func (b *box) mirrorsBySchedule(t *testing.T) {
	t.Helper()
	upstream, stop := b.sampleUpstream(t)
	defer stop()
	const (
		root = "/root/quay-install"
		conf = root + "/quay-config/config.yaml"
	)
	write := func(path, text string) { b.inside(t, "sh", "-c", fmt.Sprintf("printf %%s '%s' >%s", text, path)) }
	b.inside(t, "mkdir", "-p", root+"/sync", "/etc/containers")
	b.inside(t, "install", "-d", "-o", "appliance", root+"/sync/base")
	write("/etc/containers/registries.conf", "[[registry]]\nlocation = \""+upstream+"\"\ninsecure = true\n")
	write(root+"/sync/base.yaml", "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n"+
		"  additionalImages:\n  - {name: "+upstream+"/samples/oci-multi:v1, targetRepo: by/schedule}\n"+
		"  helm:\n    repositories:\n    - {name: samples, url: http://"+upstream+"/charts/, charts: [{name: sample-app}]}\n")
	b.inside(t, "cp", "-p", conf, conf+".before")
	b.inside(t, "sed", "-i", "/^sync:/d", conf)
	b.inside(t, "sh", "-c", "printf 'sync:\\n- {imageSet: "+root+"/sync/base.yaml, workspace: "+root+"/sync/base, interval: 24h}\\n' >>"+conf)
	b.inside(t, "systemctl", "restart", "appliance.service")
	b.healthy(t)
	b.inside(t, installed, "sync", root+"/sync/base.yaml")
	if out := b.inside(t, installed, "status"); !strings.Contains(out, "base.yaml") {
		t.Errorf("status says:\n%s", out)
	}
	// The image of a chart, which another program has rendered, in the service's sandbox.
	b.client(t, "skopeo", "inspect", "--raw", "--cert-dir", b.certs(), "docker://"+registryAddress+"/samples/docker:v1")
	b.client(t, "skopeo", "copy", "-q", "--all", "--src-cert-dir", b.certs(), "docker://"+registryAddress+"/by/schedule:v1", "dir:"+t.TempDir())
	b.inside(t, "mv", conf+".before", conf)
	b.inside(t, "rm", "-r", root+"/sync", "/etc/containers")
	b.inside(t, "systemctl", "restart", "appliance.service")
	b.healthy(t)
}
