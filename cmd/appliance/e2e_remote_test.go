//go:build e2e

package main_test

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// typed runs the program outside, with a line of standard input for each question.
func (b *box) typed(ctx context.Context, stdin string, args ...string) (string, error) {
	c := exec.CommandContext(ctx, b.script, append([]string{"outside", filepath.Join(b.bin, "appliance")}, args...)...)
	c.Env, c.Stdin, c.WaitDelay = b.env, strings.NewReader(stdin), 10*time.Second
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	err := c.Run()
	return out.String(), err
}

// cutOff kills the program outside when it has printed a text, and waits until the one inside has ended.
func (b *box) cutOff(t *testing.T, at string, args ...string) {
	t.Helper()
	c := exec.Command(b.script, append([]string{"outside", filepath.Join(b.bin, "appliance")}, args...)...)
	c.Env = b.env
	out, err := c.StderrPipe()
	must(t, err)
	must(t, c.Start())
	lines := bufio.NewScanner(out)
	for lines.Scan() && !strings.Contains(lines.Text(), at) {
	}
	must(t, c.Process.Kill()) // the script has become the program
	_ = c.Wait()
	if !strings.Contains(lines.Text(), at) {
		t.Fatalf("%q was not printed", at)
	}
	waitFor(t, "the end of the command", func() error {
		_, err := b.run("exec", "sh", "-c", "! ls -d /root/.appliance-remote.* >/dev/null 2>&1")
		return err
	})
}

// worksFromOutside installs over SSH as each kind of user, and takes it away again.
func (b *box) worksFromOutside(t *testing.T) {
	key := filepath.Join(b.home, "id_ed25519")
	out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b.must(t, "push", key+".pub", "/run/key.pub")
	b.inside(t, "sh", "-c", `set -e
		for u in ops asked; do useradd -m -s /bin/bash $u; done
		echo asked:a-sudo-password | chpasswd; usermod -p "*" ops
		echo "ops ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/test; echo "asked ALL=(ALL) ALL" >>/etc/sudoers.d/test
		for h in /root /home/ops /home/asked /home/tester; do
			mkdir -p $h/.ssh; cp /run/key.pub $h/.ssh/authorized_keys; chmod 644 $h/.ssh/authorized_keys; chown -R --reference=$h $h/.ssh
		done`)
	before := b.files(t)
	leavesNothing := func(t *testing.T) {
		t.Helper()
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		}
	}
	as := func(user string, args ...string) []string {
		return append(args, "-H", boxHost, "-u", user, "-k", key)
	}
	run := func(t *testing.T, stdin string, args ...string) string {
		t.Helper()
		out, err := b.typed(t.Context(), stdin, args...)
		if err != nil {
			t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
		}
		return out
	}
	fails := func(t *testing.T, text, stdin string, args ...string) {
		t.Helper()
		if out, err := b.typed(t.Context(), stdin, args...); err == nil || !strings.Contains(out, text) {
			t.Errorf("%s: %v, it does not say %q:\n%s", strings.Join(args, " "), err, text, out)
		}
	}
	ends := func(t *testing.T, out, address string) {
		t.Helper()
		lines := strings.Split(strings.TrimSpace(out), "\n")
		if m := installLine.FindStringSubmatch(lines[len(lines)-1]); m == nil || m[1] != address {
			t.Errorf("it ends with\n%s", out)
		}
	}

	t.Run("an unknown host is asked for", func(t *testing.T) {
		fails(t, "was not accepted", "", as("root", "install")...)
		fails(t, "was not accepted", "n\n", as("root", "install")...)
		fails(t, "no appliance is installed here", "y\n", as("root", "uninstall")...)
	})
	t.Run("root", func(t *testing.T) {
		ends(t, run(t, "", as("root", "install", "-v")...), registryAddress)
		b.trust(t)
		b.healthy(t)
		if out := run(t, "", as("root", "install")...); !strings.Contains(out, "nothing had to be changed") || strings.Contains(out, "copying") {
			t.Errorf("a second install:\n%s", out)
		}
		if out := run(t, "", as("root", "upgrade")...); !strings.Contains(out, "https://"+registryAddress) {
			t.Errorf("an upgrade to the same version:\n%s", out)
		}
		b.healthy(t)
		fails(t, "Remove the appliance from "+boxHost+"?", "n\n", as("root", "uninstall")...)
		run(t, "y\ny\n", as("root", "uninstall")...)
		leavesNothing(t)
	})
	t.Run("sudo", func(t *testing.T) {
		ends(t, run(t, "chosen-password\n", as("ops", "install", "--become", "--initPassword", "-", "--quayRoot", "~/quay")...), registryAddress)
		b.inside(t, "test", "-d", "/root/quay/quay-config")
		run(t, "", as("ops", "uninstall", "--become", "--autoApprove", "--quayRoot", "~/quay")...)
		fails(t, "--askBecomePass", "", as("asked", "install", "--become", "--dry-run")...)
		fails(t, "does not take the password", "another\n", as("asked", "install", "--askBecomePass", "--dry-run")...)
		if out := run(t, "a-sudo-password\n", as("asked", "install", "--askBecomePass", "--dry-run")...); !strings.Contains(out, "/usr/local/bin/appliance") {
			t.Errorf("with the password:\n%s", out)
		}
		if log := b.inside(t, "journalctl", "--no-pager"); strings.Contains(log, "a-sudo-password") || strings.Contains(log, "chosen-password") {
			t.Error("the journal has a password")
		}
		leavesNothing(t)
	})
	t.Run("a user", func(t *testing.T) {
		fails(t, "is an IP address", "", as("tester", "install", "--quayHostname", "10.98.0.2")...)
		own := []string{"--sslCert", filepath.Join(b.home, "own.pem"), "--sslKey", filepath.Join(b.home, "own.key")}
		out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "9", "-subj", "/CN=x",
			"-addext", "subjectAltName=DNS:"+boxHost, "-out", own[1], "-keyout", own[3]).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		fails(t, own[1], "", as("tester", append(own, "install", "--quayHostname", "localhost:9443")...)...)
		ends(t, run(t, "", as("tester", append(own, "install", "--quayHostname", boxHost+":9443", "-r", "quay")...)...), boxHost+":9443")
		b.inside(t, "test", "-d", "/home/tester/quay/quay-config")
		b.client(t, "curl", "-fsS", "--cacert", own[1], "https://"+boxHost+":9443/health/instance")
		b.fails(t, nil, "exec", "sh", "-c", "ls -d /tmp/appliance-request-*")
		run(t, "", as("tester", "uninstall", "--autoApprove")...)
	})
	t.Run("a connection that is cut off", func(t *testing.T) {
		for _, at := range []string{"make directory", "config.yaml", "start appliance.socket", "create the users"} {
			b.cutOff(t, at, as("root", "install")...)
		}
		ends(t, run(t, "", as("root", "install")...), registryAddress)
		run(t, "", as("root", "uninstall", "--autoApprove")...)
		leavesNothing(t)
	})
	_ = os.Remove(key)
}
