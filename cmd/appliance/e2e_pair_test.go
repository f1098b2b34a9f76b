//go:build e2e

package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// isPair installs two appliances in one box, of root and of a user: the second follows, is promoted when the first
// is stopped, and the first follows that.
func (b *box) isPair(t *testing.T, asTester func(args ...string) []string) {
	t.Helper()
	first, second := boxHost+":8443", boxHost+":9443"
	asRoot := func(args ...string) []string { return append([]string{"exec"}, args...) }
	// admin writes the login that an install ends with into a file of the other's user.
	admin := func(out, owner, file string) (password string) {
		t.Helper()
		m := installLine.FindStringSubmatch(out)
		if m == nil {
			t.Fatalf("install ends with:\n%s", out)
		}
		b.inside(t, "install", "-m", "600", "-o", owner, "/dev/null", file)
		b.inside(t, "sh", "-c", fmt.Sprintf("echo '%s:%s' >%s", m[2], m[3], file))
		return m[3]
	}
	status := func(as func(...string) []string, installed, want string) {
		t.Helper()
		waitFor(t, "status "+want, func() error {
			out, err := b.run(as(installed, "status")...)
			if err == nil && !strings.Contains(out, want) {
				err = fmt.Errorf("it is\n%s", out)
			}
			return err
		})
	}
	out := b.must(t, asRoot("/root/appliance", "install", "--quayHostname", first)...)
	b.trust(t)
	passwords := map[string]string{first: admin(out, "tester", "/home/tester/first.login")}
	b.inside(t, "cp", "/root/quay-install/quay-rootCA/rootCA.pem", "/home/tester/first-ca.pem")
	b.address = first
	b.must(t, b.podman("login", "--cert-dir", b.certs(), "-u", "init", "-p", passwords[first], first)...)
	want := map[string]string{"pair/app": b.pushIndex(t, "pair/app:v1")}

	out = b.must(t, asTester("appliance-under-test", "install", "--quayHostname", second, "--follow", "https://"+first, "--follow-credentials", "first.login", "--follow-ca", "first-ca.pem")...)
	if !strings.Contains(out, "this registry follows https://"+first) {
		t.Errorf("install --follow says\n%s", out)
	}
	passwords[second] = admin(out, "root", "/root/second.login")
	must(t, os.WriteFile(filepath.Join(b.certs(), "second.crt"), []byte(b.inside(t, "cat", "/home/tester/quay-install/quay-rootCA/rootCA.pem")), 0o600))
	status(asTester, ".local/bin/appliance", "a copy of https://"+first)
	status(asTester, ".local/bin/appliance", "equal to it at ")
	status(asRoot, installed, "followed by")
	b.address = second
	b.must(t, b.podman("login", "--cert-dir", b.certs(), "-u", "init", "-p", passwords[second], second)...)
	b.pullsAll(t, want)

	b.inside(t, "systemctl", "stop", "appliance.socket", "appliance.service")
	b.fails(t, []string{"cannot be asked to give way", "last equal to it at", "appliance promote --force"}, asTester(".local/bin/appliance", "promote")...)
	b.must(t, asTester(".local/bin/appliance", "promote", "--force")...)
	want["pair/later"] = b.pushIndex(t, "pair/later:v1")
	b.inside(t, "systemctl", "start", "appliance.socket", "appliance.service")
	status(asRoot, installed, "https://"+second+" has taken its place")
	b.inside(t, installed, "follow", "https://"+second, "--credentials", "/root/second.login", "--ca", "/home/tester/quay-install/quay-rootCA/rootCA.pem")
	status(asRoot, installed, "equal to it at ")
	b.address = first
	b.pullsAll(t, want)
	b.inside(t, installed, "promote")
	status(asTester, ".local/bin/appliance", "https://"+first+" has taken its place")

	b.must(t, asTester(".local/bin/appliance", "uninstall", "--autoApprove")...)
	b.inside(t, installed, "uninstall", "--autoApprove")
	b.inside(t, "rm", "/root/second.login", "/home/tester/first.login", "/home/tester/first-ca.pem")
}
