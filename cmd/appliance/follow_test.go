package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// follow is a command line by which s follows first.
func (s *site) follow(t *testing.T, first *site, flags ...string) []string {
	t.Helper()
	login := s.file(t, "first.login", "admin:"+faultPassword+"\n")
	return append([]string{"follow", "https://" + first.address, "--quayRoot", s.root, "--credentials", login, "--ca", first.cfg.TLS.CA}, flags...)
}

// awaits polls the status of a daemon.
func (s *site) awaits(t *testing.T, ok func(api.Status) bool) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		now, err := s.admin.Status(t.Context())
		must(t, err)
		if ok(now) {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("its status stays %+v, %+v\n%s", now.Family, now.Following, s.said)
		}
	}
}

func caughtUp(s api.Status) bool { return s.Following != nil && s.Following.CaughtUp }

func (s *site) isPrimary(t *testing.T) bool {
	t.Helper()
	now, err := s.admin.Status(t.Context())
	if err != nil {
		t.Fatalf("%v; the daemon said:\n%s", err, s.said)
	}
	return now.Family.Role == "primary"
}

func TestFollow_commands(t *testing.T) {
	first, second := newSite(t), newSite(t)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{[]string{"follow", "--quayRoot", second.root}, "the address of the appliance to follow is missing"},
		{[]string{"follow", "https://x:8443", "--quayRoot", second.root}, "--credentials is missing"},
		{[]string{"follow", "https://admin:" + faultPassword + "@x:8443", "--quayRoot", second.root, "--credentials", "x"}, "is not an address of the form https://HOST:PORT"},
		{[]string{"follow", "http://x:8443", "--quayRoot", second.root, "--credentials", "x"}, "is not an address of the form https://HOST:PORT"},
		{[]string{"follow", "https://x:8443", "--quayRoot", second.root, "--credentials", second.file(t, "bad.login", faultPassword)}, "is not USER:PASSWORD"},
		{[]string{"follow", "https://x:8443", "--quayRoot", second.root, "--credentials", filepath.Join(second.dir, "none")}, "--credentials"},
		{second.follow(t, second), "is this appliance itself"},
		{[]string{"promote", "x"}, "x"},
		{[]string{"install", "--follow-credentials", "x"}, "need --follow"},
		{[]string{"install", "--follow", "https://x:8443"}, "--credentials is missing"},
	} {
		code, stdout, stderr := second.run(t, tc.args...)
		if code != 1 || !strings.Contains(stderr, tc.want) || strings.Contains(stdout+stderr, faultPassword) {
			t.Errorf("%q: %d, %s%s, want %s", tc.args, code, stdout, stderr, tc.want)
		}
	}
	must(t, second.push(t.Context(), newTestImage("own", "v1", randomBytes(1<<10))))
	for force, want := range map[string]bool{"--force": false, "--force=false": true} {
		out := second.works(t, second.follow(t, first, "--dry-run", force)...)
		if strings.Contains(out, "add --force") != want || !strings.Contains(out, "tags and images removed or replaced here: 1\n  own:v1\n") || !strings.Contains(out, "nothing has been changed") {
			t.Errorf("a dry run with %s prints %s", force, out)
		}
	}
	if !second.isPrimary(t) {
		t.Error("a dry run follows")
	}
	for mode, want := range map[os.FileMode]bool{0o640: false, 0o604: true} {
		args := second.follow(t, first, "--dry-run")
		must(t, os.Chmod(args[5], mode))
		if _, _, stderr := second.run(t, args...); strings.Contains(stderr, "other users of this host may read the password in "+args[5]) != want {
			t.Errorf("with the login's file %s: %s", mode, stderr)
		}
		must(t, os.Remove(args[5]))
	}
	if out := second.works(t, second.follow(t, first, "--force")...); !strings.Contains(out, "follows https://"+first.address) {
		t.Errorf("it prints %s", out)
	}
	second.awaits(t, caughtUp)
	if out := second.works(t, "status", "--quayRoot", second.root); !strings.Contains(out, "a copy of https://"+first.address) || !strings.Contains(out, "equal to it at") || !strings.Contains(out, "scheduled syncs") || strings.Contains(out, faultPassword) {
		t.Errorf("status prints\n%s", out)
	}
	if out := first.works(t, "status", "--quayRoot", first.root); !strings.Contains(out, "followed by") || !strings.Contains(out, "https://"+second.address) {
		t.Errorf("status of the first prints\n%s", out)
	}
	if out := first.works(t, "status", "--quayRoot", first.root, "-o", "json"); !strings.Contains(out, `"followers": [`) || strings.Contains(out, faultPassword) {
		t.Errorf("status of the first prints\n%s", out)
	}
	if code, _, stderr := second.run(t, "user", "role", "pull", "push", "--quayRoot", second.root); code != 0 {
		t.Errorf("its own users cannot be changed: %s", stderr)
	}
	if said := second.said.String() + first.said.String(); strings.Contains(said, faultPassword) {
		t.Error("a log has the password")
	}
	bundle := filepath.Join(second.dir, "support.tar.gz")
	second.run(t, "support-bundle", "--quayRoot", second.root, "-o", bundle) // which fails where doctor does
	text, err := exec.Command("tar", "-xzOf", bundle).Output()
	must(t, err)
	if !strings.Contains(string(text), "follows") || strings.Contains(string(text), faultPassword) {
		t.Errorf("the support archive of %d bytes has the password, or nothing of the pair", len(text))
	}
	if info, err := os.Stat(second.cfg.Database); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the database, which has the login: %v, %v", info.Mode(), err)
	}
	t.Run("stopped, it is one of its own", func(t *testing.T) {
		second.works(t, "follow", "--stop", "--quayRoot", second.root)
		if !second.isPrimary(t) || !first.isPrimary(t) {
			t.Error("one of the two takes no changes")
		}
		if _, _, stderr := second.run(t, "follow", "--stop", "--quayRoot", second.root); !strings.Contains(stderr, "follows no other") {
			t.Errorf("again: %s", stderr)
		}
	})
}

// One of the two is killed while the other is promoted, at moments that differ.
func TestPromote_killed(t *testing.T) {
	primary, follower := newSite(t), newSite(t)
	follower.works(t, follower.follow(t, primary)...)
	for i := range 12 {
		follower.awaits(t, caughtUp)
		promote := follower.command("promote")
		must(t, promote.Start())
		time.Sleep(time.Duration(i*i) * 4 * time.Millisecond) // from before its first request to after its end
		victim := []*site{primary, follower}[i%2]
		victim.kill()
		_ = promote.Wait() // it may have failed
		victim.start(t)
		if primary.isPrimary(t) && follower.isPrimary(t) {
			t.Fatalf("round %d: both take changes", i)
		}
		follower.works(t, "promote", "--quayRoot", follower.root)
		if primary.isPrimary(t) || !follower.isPrimary(t) {
			t.Fatalf("round %d: the repeated promotion has not completed", i)
		}
		primary, follower = follower, primary
		follower.works(t, follower.follow(t, primary)...)
	}
}
