package installer

import (
	"slices"
	"strings"
	"testing"
)

// A port that firewalld keeps closed is opened with consent, and closed again by an uninstall.
func TestInstall_firewall(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.write("usr/bin/firewall-cmd", "")
	b.closed = true
	p := b.plan(b.request())
	if !slices.ContainsFunc(p.Warnings, func(w Problem) bool {
		return strings.Contains(w.What, "port 8443 is not open") && strings.Contains(w.Remedy, "--autoApprove")
	}) {
		t.Errorf("warnings: %v", p.Warnings)
	}
	b.install()
	if !b.closed {
		t.Fatal("it was opened without consent")
	}
	r := b.request()
	r.OpenFirewall = true
	var ran []string
	b.ran = func(name string, args ...string) {
		if name == "firewall-cmd" && !strings.HasPrefix(args[0], "--query") && args[0] != "--state" {
			ran = append(ran, strings.Join(args, " "))
		}
	}
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil || b.closed {
		t.Fatalf("closed %v, %v", b.closed, err)
	}
	b.uninstall(true)
	if want := []string{"--permanent --add-port=8443/tcp", "--add-port=8443/tcp", "--permanent --remove-port=8443/tcp", "--remove-port=8443/tcp"}; !b.closed || !slices.Equal(ran, want) {
		t.Errorf("closed %v after %v", b.closed, ran)
	}
}

// A port that was open before stays open.
func TestInstall_firewallThatIsOpen(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	b.write("usr/bin/firewall-cmd", "")
	r := b.request()
	r.OpenFirewall = true
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	b.uninstall(true)
	if b.closed {
		t.Error("an uninstall has closed it")
	}
}
