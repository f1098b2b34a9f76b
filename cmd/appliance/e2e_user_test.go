//go:build e2e

package main_test

import (
	"strings"
	"testing"
)

// TestInstalledByUser is the same without root: a user unit that lingers.
func TestInstalledByUser(t *testing.T) {
	t.Parallel()
	b := newBox(t, "user")
	b.inside(t, "install", "-m", "755", "/root/appliance", "/usr/bin/appliance-under-test")
	asTester := func(args ...string) []string { return append([]string{"exec-user", "tester"}, args...) }

	b.fails(t, []string{"port 443 is below 1024", "sysctl net.ipv4.ip_unprivileged_port_start=443"},
		asTester("appliance-under-test", "install", "--quayHostname", boxHost+":443")...)
	b.lingersWithoutPolkit(t, asTester)
	out := b.must(t, asTester("appliance-under-test", "install", "--quayHostname", boxHost+":9443")...)
	m := installLine.FindStringSubmatch(out)
	if m == nil || m[1] != boxHost+":9443" {
		t.Fatalf("install ends with:\n%s", out)
	}
	answers := func() error {
		_, err := b.run("exec", "curl", "-fsS", "--cacert", "/home/tester/quay-install/quay-rootCA/rootCA.pem",
			"https://"+boxHost+":9443/health/instance")
		return err
	}
	// The session that installed it has ended; the service has not.
	waitFor(t, "health", answers)
	b.must(t, "reboot")
	waitFor(t, "health after a reboot, with nobody logged in", answers)

	out = b.must(t, asTester("appliance-under-test", "install", "--quayHostname", boxHost+":9443")...)
	if !strings.Contains(out, "nothing had to be changed") {
		t.Errorf("a second install says:\n%s", out)
	}
	b.must(t, asTester(".local/bin/appliance", "backup", "elsewhere/backup")...)
	b.inside(t, "test", "-f", "/home/tester/elsewhere/backup/appliance.db")
	b.inside(t, "rm", "-r", "/home/tester/elsewhere")
	if out := b.must(t, asTester(".local/bin/appliance", "doctor")...); !strings.Contains(out, "ok       lingering ") {
		t.Errorf("doctor says\n%s", out)
	}
	b.must(t, asTester(".local/bin/appliance", "trust")...)
	b.must(t, asTester(".local/bin/appliance", "uninstall", "--autoApprove")...)
	left := b.inside(t, "find", "/home/tester", "-path", "*appliance*", "-o", "-path", "*quay*")
	if left != "" {
		t.Errorf("left behind:\n%s", left)
	}
	t.Run("a pair", func(t *testing.T) { b.isPair(t, asTester) })
	b.worksFromOutside(t)
}

// lingersWithoutPolkit has an administrator enable lingering, without which nothing is installed then;
// afterwards polkit is back.
func (b *box) lingersWithoutPolkit(t *testing.T, asTester func(args ...string) []string) {
	t.Helper()
	install := asTester("appliance-under-test", "install", "--quayHostname", boxHost+":9443")
	left := func() string {
		return b.inside(t, "find", "/home/tester", "-path", "*appliance*", "-o", "-path", "*quay*")
	}
	b.inside(t, "systemctl", "mask", "--now", "polkit")
	b.fails(t, []string{"end when the user logs out", "sudo loginctl enable-linger 1000"}, install...)
	if made := left(); made != "" {
		t.Errorf("a refused install has made\n%s", made)
	}
	b.inside(t, "loginctl", "enable-linger", "tester")
	b.must(t, install...)
	b.must(t, "reboot")
	waitFor(t, "health after a reboot, without polkit", func() error {
		_, err := b.run("exec", "curl", "-fsS", "--cacert", "/home/tester/quay-install/quay-rootCA/rootCA.pem", "https://"+boxHost+":9443/health/instance")
		return err
	})
	b.must(t, asTester(".local/bin/appliance", "uninstall", "--autoApprove")...)
	if made := left(); made != "" {
		t.Errorf("left behind:\n%s", made)
	}
	b.inside(t, "test", "-e", "/var/lib/systemd/linger/tester") // which was the administrator's to set
	b.inside(t, "loginctl", "disable-linger", "tester")
	b.inside(t, "systemctl", "unmask", "polkit")
}

// TestInstallRefuses gives install what it cannot work with: one message each, nothing written.
func TestInstallRefuses(t *testing.T) {
	t.Parallel()
	b := newBox(t, "refuses")
	before := b.files(t)
	b.inside(t, "systemd-run", "--unit=squatter", "systemd-socket-activate", "-l", "8443", "/bin/cat")
	waitFor(t, "the squatter", func() error {
		_, err := b.run("exec", "sh", "-c", "ss -ltn | grep -q :8443")
		return err
	})
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"a taken port", []string{"--quayHostname", boxHost}, []string{"8443", "systemd-socket", "hint:"}},
		{"an unresolvable hostname", []string{"--quayHostname", "nowhere.sdbox.test:9443"}, []string{"nowhere.sdbox.test", "/etc/hosts"}},
		{"an IP as hostname", []string{"--quayHostname", "10.98.0.2:9443"}, []string{"IP address", "DNS name"}},
		{"a short password", []string{"--quayHostname", boxHost + ":9443", "--initPassword", "short"}, []string{"8"}},
		{"a password with spaces", []string{"--quayHostname", boxHost + ":9443", "--initPassword", "with some spaces"}, []string{"whitespace"}},
		{"a bad port", []string{"--quayHostname", boxHost + ":99999"}, []string{"99999"}},
		{"several at once", []string{"--quayHostname", "10.98.0.2", "--initPassword", "short"}, []string{"IP address", "8443", "8 "}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.fails(t, append(c.says, "error:"), append([]string{"exec", "/root/appliance", "install"}, c.args...)...)
			if left := without(b.files(t), before); len(left) > 0 {
				t.Errorf("written:\n%s", strings.Join(left, "\n"))
			}
		})
	}
	t.Run("another install under way", func(t *testing.T) {
		b.inside(t, "systemd-run", "--unit=installing", "flock", "/root", "sleep", "infinity")
		waitFor(t, "the other install", func() error {
			_, err := b.run("exec", "sh", "-c", "! flock -n /root true")
			return err
		})
		b.fails(t, []string{"another install or uninstall is under way", "hint:"}, "exec", "/root/appliance", "install", "--quayHostname", boxHost+":9443")
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("written:\n%s", strings.Join(left, "\n"))
		}
	})
	t.Run("a port that is taken by something that is not ours stays taken", func(t *testing.T) {
		b.inside(t, "systemctl", "is-active", "squatter.service")
	})
	b.inside(t, "systemctl", "stop", "squatter", "installing")
	b.takesOver(t)
	b.takesOver3(t)
}
