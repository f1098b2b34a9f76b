//go:build e2e

package main_test

import (
	"strings"
	"testing"
)

// belongsToRoot expects configuration and record to be root's, and the service to write to
// its own directories only.
func (b *box) belongsToRoot(t *testing.T) {
	t.Helper()
	b.inside(t, "systemd-analyze", "security", "--no-pager", "--threshold=20", "appliance.service") // in tenths
	const root = "/root/quay-install"
	if not := b.inside(t, "find", root, root+"/quay-config", root+"/quay-rootCA", "-maxdepth", "1", "!", "-user", "root",
		"!", "-name", "quay-storage", "!", "-name", "sqlite-storage", "!", "-name", "run", "!", "-name", "tls-state", "!", "-name", "rootCA-key.pem"); not != "" {
		t.Errorf("not root's:\n%s", not)
	}
	if open := b.inside(t, "find", root, "-user", "root", "!", "-type", "l", "-perm", "/022"); open != "" {
		t.Errorf("root's, and others may write:\n%s", open)
	}
	b.fails(t, nil, "exec", "runuser", "-u", "appliance", "--", "sh", "-c", "echo x >>"+root+"/quay-config/config.yaml")
}

// migrates gives configuration, record and certificates to the service, as earlier versions
// did, and installs again.
func (b *box) migrates(t *testing.T) {
	t.Helper()
	b.inside(t, "sh", "-c", `cd /root/quay-install/quay-config && rm ssl.cert ssl.key && mv ../tls-state/ssl.cert ../tls-state/ssl.key . &&
		chown -R appliance:appliance . && chown appliance ../quay-rootCA/rootCA.pem && chmod 600 ssl.key`)
	if out := b.inside(t, "/root/appliance", "user", "list"); !strings.Contains(out, "puller") {
		t.Errorf("before the install, user list says:\n%s", out)
	}
	b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost)
	b.belongsToRoot(t)
	if out := b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost); !strings.Contains(out, "nothing had to be changed") {
		t.Errorf("the install after that says:\n%s", out)
	}
	b.healthy(t)
}

// TestInstalledInDirectoriesThatExist has a quayRoot that the service may only pass through, and
// directories of a user's for the content, one of them reached by a link. An uninstall gives
// them back as they were.
func TestInstalledInDirectoriesThatExist(t *testing.T) {
	t.Parallel()
	b := newBox(t, "given")
	b.inside(t, "sh", "-c", `mkdir -m 711 /opt/quay && install -d -o tester -g tester -m 2775 /opt/blobs &&
		install -d -o tester -m 1777 /opt/db && ln -s /opt/blobs /opt/link`)
	look := []string{"stat", "-c", "%n %U:%G %a", "/opt/quay", "/opt/blobs", "/opt/db"}
	before := b.inside(t, look...)
	b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost,
		"--quayRoot", "/opt/quay", "--quayStorage", "/opt/link", "--sqliteStorage", "/opt/db")
	b.inside(t, installed, "status")
	b.inside(t, installed, "uninstall", "--autoApprove")
	if after := b.inside(t, look...); after != before {
		t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
}
