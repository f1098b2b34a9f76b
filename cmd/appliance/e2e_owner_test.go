//go:build e2e

package main_test

import (
	"strings"
	"testing"
)

// belongsToRoot expects configuration and record to be root's, and the service to write to its own directories only.
func (b *box) belongsToRoot(t *testing.T) {
	t.Helper()
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

// migrates gives configuration, record and certificates to the service, as earlier versions did, and installs again.
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
