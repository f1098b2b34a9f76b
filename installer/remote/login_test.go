//go:build e2e

package remote

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// loginRuns has each login run a command in the place of what it was asked for.
func (s *sshd) loginRuns(command string) {
	s.t.Helper()
	public, err := os.ReadFile(s.file("user.pub"))
	must(s.t, err)
	s.write(s.file("authorized"), `command="`+command+`" `+string(public))
}

// Shells of users that run no command, each told as what it is.
func TestRun_loginWithoutAShell(t *testing.T) {
	s := newSSHD(t)
	t.Cleanup(func() { firstAnswer = patience })
	for _, tc := range []struct {
		login, want, hint string
		answers           time.Duration // is awaited: a shell that ends may take long to, on a busy machine
	}{
		{"exit 0", "its shell ended before", "ssh 127.0.0.1", patience},
		{"sleep 60", "has not run a command within 2s", "ssh 127.0.0.1", 2 * time.Second},
		{"echo This account is currently not available.; exit 1", "currently not available", "", patience},
	} {
		s.loginRuns(tc.login)
		firstAnswer = tc.answers
		_, err := s.run(t.Context(), s.target(), Request{Command: "where"}, &person{})
		if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hint.Of(err), tc.hint) {
			t.Errorf("%s: %v, hint %q", tc.login, err, hint.Of(err))
		}
	}
	firstAnswer = time.Hour
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	s.loginRuns("sleep 60")
	begin := time.Now()
	if _, err := s.run(ctx, s.target(), Request{Command: "where"}, &person{}); err == nil || time.Since(begin) > 10*time.Second {
		t.Errorf("an interrupt takes %s: %v", time.Since(begin), err)
	}
}

// What a copy that was cut off has left goes with the next command, and what is being copied stays.
func TestRun_partOfACopy(t *testing.T) {
	s := newSSHD(t)
	home := filepath.Join(s.dir, "elsewhere")
	s.withHome(home)
	old, now := filepath.Join(home, copied+"old", "part"), filepath.Join(home, copied+"now", "part")
	for _, path := range []string{old, now} {
		must(t, os.MkdirAll(filepath.Dir(path), 0o700))
		s.write(path, "part")
	}
	earlier := time.Now().Add(-5 * time.Minute)
	must(t, os.Chtimes(old, earlier, earlier))
	to := s.target()
	if code, err := s.run(t.Context(), to, Request{Command: "where"}, &person{}); code != 0 || err != nil {
		t.Fatal(code, err)
	}
	if exists(old) || !exists(now) {
		t.Errorf("the one that was cut off is there: %v; the one that is copied: %v", exists(old), exists(now))
	}
}

// A host that ends the connection in the middle of the login.
func TestDial_endOfTheLogin(t *testing.T) {
	s := newSSHD(t)
	to := s.target()
	to.Host, _ = s.cable(1 << 10)
	_, err := s.run(t.Context(), to, Request{Command: "where"}, &person{})
	if err == nil || !strings.Contains(hint.Of(err), "chage -l ") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}

// Root needs no sudo, and is not asked to log in as root.
func TestRun_sudoThatIsNotThere(t *testing.T) {
	h := &host{to: &Target{Become: Sudo}, name: "box", user: "root"}
	r := &run{host: h, errs: &errorOutput{}}
	if err := r.notStarted(t.Context(), errors.New("exec: sudo: not found")); !strings.Contains(hint.Of(err), "leave sudo out") || strings.Contains(hint.Of(err), "--targetUsername") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}

// A line that cannot be read is in the way of no other, as for ssh.
func TestRun_hostKeys_linesThatCannotBeRead(t *testing.T) {
	s := newSSHD(t)
	to := s.target()
	known := filepath.Join(s.home, ".ssh", "known_hosts")
	where := Request{Command: "where"}
	must(t, func() error { _, err := s.run(t.Context(), to, where, &person{}); return err }())
	good, err := os.ReadFile(known)
	must(t, err)
	to.Accept = false
	for _, line := range []string{"old.example.com 1024 35 1234567890123", "old.example.com foo-type AAAACGZvby10eXBl", "|1|broken|x ssh-ed25519 AAAA", "garbage"} {
		s.write(known, line+"\n"+string(good))
		p := &person{}
		if _, err := s.run(t.Context(), to, where, p); err != nil || len(p.asked) > 0 || !strings.Contains(p.said(), "note: "+known+":1 is not read: ") {
			t.Errorf("with %q: %v, asked %q\n%s", line, err, p.asked, p.said())
		}
	}
	s.write(known, "@revoked * foo-type AAAACGZvby10eXBl\n"+string(good))
	if _, err := s.run(t.Context(), to, where, &person{}); err == nil || !strings.Contains(err.Error(), known+":1: ") {
		t.Errorf("a revoked key that cannot be read: %v", err)
	}
	s.stop()
	s.key("host", "")
	s.start()
	s.write(known, "garbage\n"+string(good))
	if _, err := s.run(t.Context(), to, where, &person{}); err == nil || !strings.Contains(err.Error(), known+":2 has another") {
		t.Errorf("a changed key: %v", err)
	}
}

// The directory for the program is one with space.
func TestRun_directoryWithSpace(t *testing.T) {
	s := newSSHD(t)
	small := filepath.Join(s.dir, "small")
	must(t, os.Mkdir(small, 0o700))
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", small).CombinedOutput(); err != nil {
		t.Fatalf("mount: %v\n%s", err, out)
	}
	t.Cleanup(func() { must(t, exec.Command("umount", small).Run()) })
	s.withHome(small) // it is the first that is looked at
	code, err := s.run(t.Context(), s.target(), Request{Command: "where"}, &person{})
	if err != nil || code != 0 {
		t.Errorf("exit code %d, %v", code, err)
	}
	s.nothingLeft()
}

func TestRun_sudoThatRefuses(t *testing.T) {
	s := newSSHD(t)
	bin := filepath.Join(s.dir, "bin")
	must(t, os.Mkdir(bin, 0o700))
	must(t, os.WriteFile(filepath.Join(bin, "sudo"), []byte(`#!/bin/sh
printf "%s " "$4" >&2; read -r answer; echo "root is not in the sudoers file." >&2; exit 1
`), 0o700))
	public, err := os.ReadFile(s.file("user.pub"))
	must(t, err)
	s.write(s.file("authorized"), fmt.Sprintf(`command="PATH=%s:$PATH; eval \"$SSH_ORIGINAL_COMMAND\"" %s`, bin, public))
	to := s.target()
	to.Become = SudoPassword
	_, err = s.run(t.Context(), to, Request{Command: "where"}, &person{secret: "right"})
	if host, _, _ := net.SplitHostPort(to.Host); err == nil || err.Error() != host+": root is not in the sudoers file." || strings.Contains(hint.Of(err), "askBecomePass") {
		t.Errorf("got %v, hint %q", err, hint.Of(err))
	}
}
