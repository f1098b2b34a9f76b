//go:build e2e

package main_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestHost installs on hosts that are not as most are, one after the other.
func TestHost(t *testing.T) {
	t.Parallel()
	b := newBox(t, "host")
	t.Run("the umask decides nothing", func(t *testing.T) { b.ignoresUmask(t) })
	t.Run("firewalld", func(t *testing.T) { b.opensFirewall(t) })
	t.Run("IPv6 alone, and port 443", func(t *testing.T) { b.hasIPv6Alone(t) })
}

// ofTheCA is a directory that is named after a CA.
var ofTheCA = regexp.MustCompile(`appliance-[0-9a-f]{16}`)

// ignoresUmask compares owners and modes of all that an install makes.
func (b *box) ignoresUmask(t *testing.T) {
	t.Helper()
	before := b.files(t)
	var want string
	for _, mask := range []string{"022", "077", "000"} {
		b.inside(t, "sh", "-c", "umask "+mask+" && /root/appliance install --quayHostname "+boxHost+" && "+installed+" trust")
		made := without(b.files(t), before)
		got := b.inside(t, append([]string{"stat", "-c", "%A %U:%G %n"}, made...)...)
		got = ofTheCA.ReplaceAllString(got, "appliance-CA")
		if want == "" {
			want = got
		}
		for _, line := range without(strings.Split(got, "\n"), strings.Split(want, "\n")) {
			t.Errorf("umask %s: %s", mask, line)
		}
		if len(made) < 20 || strings.Count(got, "\n") != strings.Count(want, "\n") {
			t.Errorf("umask %s: it has made\n%s", mask, got)
		}
		b.inside(t, "sh", "-c", "umask "+mask+" && "+installed+" uninstall --autoApprove")
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("umask %s: left behind:\n%s", mask, strings.Join(left, "\n"))
		}
	}
}

// opensFirewall has a real firewalld between the client and the registry, in whose interface's zone
// the port is closed.
func (b *box) opensFirewall(t *testing.T) {
	t.Helper()
	reaches := func(name string) bool { // with one attempt: firewalld rejects
		_, err := b.run("outside", "curl", "-fsSk", "--max-time", "5", "https://"+name+":8443/health/instance")
		return err == nil
	}
	open := func(t *testing.T, where string, want bool) {
		t.Helper()
		for _, option := range []string{"--permanent", "-q"} {
			_, err := b.run("exec", "firewall-cmd", option, "--zone="+where, "--query-port=8443/tcp")
			if (err == nil) != want {
				t.Errorf("open in zone %s, firewall-cmd %s: %v", where, option, !want)
			}
		}
	}
	uninstall := func() { b.inside(t, installed, "uninstall", "--autoApprove") }
	install := func(more ...string) string {
		return b.inside(t, append([]string{"/root/appliance", "install", "--quayHostname", boxHost}, more...)...)
	}
	b.inside(t, "sh", "-c", `systemctl enable --now firewalld && firewall-cmd -q --permanent --zone=work --add-interface=eth0 &&
		firewall-cmd -q --reload && firewall-cmd --get-zone-of-interface=eth0 | grep -qx work`)

	if out := install(); !strings.Contains(out, "port 8443 is not open in firewalld's zone work") || !strings.Contains(out, "--autoApprove") {
		t.Errorf("without consent it says\n%s", out)
	}
	open(t, "work", false)
	if reaches(boxHost) {
		t.Fatal("the client reaches a port that is closed")
	}
	if out := b.inside(t, installed, "doctor"); !strings.Contains(out, "port 8443 is not open in firewalld's zone work") {
		t.Errorf("doctor says\n%s", out)
	}
	install("--autoApprove")
	for range 2 {
		open(t, "work", true)
		open(t, "public", false)
		for _, name := range []string{boxHost, boxHost6} {
			if !reaches(name) {
				t.Errorf("the client does not reach %s", name)
			}
		}
		b.inside(t, "firewall-cmd", "-q", "--reload") // keeps what is permanent
	}
	if out := b.inside(t, installed, "doctor"); !strings.Contains(out, "port 8443 is open") {
		t.Errorf("doctor says\n%s", out)
	}
	if out := install("--autoApprove"); !strings.Contains(out, "nothing had to be changed") {
		t.Errorf("a second install says\n%s", out)
	}
	uninstall()
	open(t, "work", false)

	t.Run("what the user has opened stays open", func(t *testing.T) {
		b.inside(t, "firewall-cmd", "-q", "--zone=work", "--add-port=8443/tcp")
		b.inside(t, "firewall-cmd", "-q", "--permanent", "--zone=work", "--add-port=8443/tcp")
		install("--autoApprove")
		uninstall()
		open(t, "work", true)
		b.inside(t, "firewall-cmd", "-q", "--permanent", "--zone=work", "--remove-port=8443/tcp")
		b.inside(t, "firewall-cmd", "-q", "--reload")
	})
	t.Run("it does not run, and will", func(t *testing.T) {
		b.inside(t, "systemctl", "stop", "firewalld")
		install("--autoApprove")
		b.inside(t, "systemctl", "start", "firewalld")
		open(t, "work", true)
		b.inside(t, "systemctl", "stop", "firewalld")
		uninstall()
		b.inside(t, "systemctl", "start", "firewalld")
		open(t, "work", false)
	})
	b.inside(t, "systemctl", "mask", "--now", "firewalld")
	if out := install("--autoApprove"); strings.Contains(out, "firewalld") {
		t.Errorf("with firewalld masked it says\n%s", out)
	}
	uninstall()
}

// boxHost6 is the box's name that has an IPv6 address alone.
const boxHost6 = "six.sdbox.test"

// hasIPv6Alone takes the addresses of IPv4 from the box, that of its loopback interface as well.
func (b *box) hasIPv6Alone(t *testing.T) {
	t.Helper()
	b.inside(t, "sh", "-c", "ip -4 address flush dev eth0; ip -4 address flush dev lo; ! ip -4 address | grep inet")
	before := b.files(t)
	b.address = boxHost6
	out := b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost6+":443")
	m := installLine.FindStringSubmatch(out)
	if m == nil || m[1] != b.address {
		t.Fatalf("install ends with:\n%s", out)
	}
	b.trust(t)
	images := make(map[string]string)
	b.clientsWork(t, m[3], images, "over/six")
	served := b.client(t, "sh", "-c", "openssl s_client -connect "+boxHost6+":443 </dev/null 2>/dev/null | openssl x509 -noout -ext subjectAltName")
	if !strings.Contains(served, "DNS:"+boxHost6) {
		t.Errorf("the certificate is for %s", served)
	}
	healthy := func() {
		t.Helper()
		var status struct{ Healthy bool }
		if text := b.inside(t, installed, "status", "-o", "json"); json.Unmarshal([]byte(text), &status) != nil || !status.Healthy {
			t.Errorf("status says\n%s", text)
		}
		if text := b.inside(t, installed, "doctor"); strings.Contains(text, "failed") {
			t.Errorf("doctor says\n%s", text)
		}
	}
	healthy()
	b.inside(t, "sh", "-c", "cp /root/appliance /root/next && echo >>/root/next && /root/next upgrade && cmp /root/next "+installed)
	healthy()
	b.pullsAll(t, images)
	b.inside(t, installed, "uninstall", "--autoApprove")
	if left := without(b.files(t), append(before, "/root/next")); len(left) > 0 {
		t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
	}
}
