package main_test

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// secretOf decodes a pull secret.
func secretOf(t *testing.T, text string) (auths map[string]map[string]any, whole map[string]any) {
	t.Helper()
	must(t, json.Unmarshal([]byte(text), &whole))
	var a struct{ Auths map[string]map[string]any }
	must(t, json.Unmarshal([]byte(text), &a))
	return a.Auths, whole
}

func TestCredentials(t *testing.T) {
	s := newSite(t)
	_, err := s.admin.CreateUser(t.Context(), api.NewUser{Name: "puller", Role: "pull", Password: nodePassword})
	must(t, err)
	s.secret(t, filepath.Join(s.root, "quay-config/pull-secret.json"), "puller", nodePassword)
	stdout := s.works(t, "credentials", "--quayRoot", s.root)
	if stdout != s.login("puller", nodePassword)+"\n" {
		t.Errorf("it prints %s", stdout)
	}

	vendor := filepath.Join(s.dir, "vendor.json")
	text := `{"auths":{"quay.io":{"auth":"cXVheTpwdw==","email":"a@example.com"},"` + s.address + `":{"auth":"b2xkOm9sZA=="}},"credHelpers":{"x":"y"},"big":12345678901234567890}`
	must(t, os.WriteFile(vendor, []byte(text), 0o640))
	must(t, os.Chmod(vendor, 0o640))
	link := filepath.Join(s.dir, "link.json")
	must(t, os.Symlink("vendor.json", link))
	for range 2 {
		s.works(t, "credentials", "--quayRoot", s.root, "--merge", link, "-o", link)
		got, err := os.ReadFile(vendor)
		must(t, err)
		auths, whole := secretOf(t, string(got))
		want, _ := secretOf(t, s.login("puller", nodePassword))
		if auths["quay.io"]["auth"] != "cXVheTpwdw==" || auths["quay.io"]["email"] != "a@example.com" || auths[s.address]["auth"] != want[s.address]["auth"] ||
			whole["credHelpers"] == nil || !strings.Contains(string(got), "12345678901234567890") || strings.Count(string(got), "\n") != 1 {
			t.Errorf("merged, it is %s", got)
		}
		if info, err := os.Stat(vendor); err != nil || info.Mode().Perm() != 0o640 {
			t.Errorf("its mode is %v, %v", info.Mode(), err)
		}
		if info, err := os.Lstat(link); err != nil || info.Mode()&os.ModeSymlink == 0 {
			t.Errorf("the link is replaced: %v, %v", info.Mode(), err)
		}
	}
	next := filepath.Join(s.dir, "new.json")
	s.works(t, "credentials", "--quayRoot", s.root, "--merge", vendor, "-o", next)
	if info, err := os.Stat(next); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("a new file has the mode %v, %v", info.Mode(), err)
	}
	pipe := filepath.Join(s.dir, "pipe")
	must(t, unix.Mkfifo(pipe, 0o600))
	came := make(chan string)
	go func() {
		text, _ := os.ReadFile(pipe)
		came <- string(text)
	}()
	s.works(t, "credentials", "--quayRoot", s.root, "-o", pipe)
	if info, err := os.Lstat(pipe); err != nil || info.Mode()&os.ModeNamedPipe == 0 {
		t.Errorf("a pipe is replaced: %v, %v", info.Mode(), err)
	} else if got := <-came; got != s.login("puller", nodePassword)+"\n" {
		t.Errorf("into a pipe it writes %q", got)
	}
	if left, _ := filepath.Glob(filepath.Join(s.dir, ".*")); len(left) > 0 {
		t.Errorf("it leaves %q", left)
	}
}

func TestCredentials_ofAnotherUser(t *testing.T) {
	s := newSite(t)
	login := func(password string) (code int, stdout, stderr string) {
		c := s.client("credentials", "--quayRoot", s.root, "--user", "pull", "--password-stdin")
		c.Stdin = strings.NewReader(password + "\n")
		return outcome(t, c)
	}
	if code, stdout, stderr := login(faultPassword); code != 0 || stdout != s.login("pull", faultPassword)+"\n" {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
	if code, stdout, stderr := login("wrong-password"); code != 1 || stdout != "" || !strings.Contains(stderr, "no user pull with this password") {
		t.Errorf("exit code %d, %s%s", code, stdout, stderr)
	}
}

func TestCredentials_refused(t *testing.T) {
	s := newSite(t)
	refused := func(want string, c *exec.Cmd) {
		t.Helper()
		if code, stdout, stderr := outcome(t, c); code != 1 || stdout != "" || !strings.Contains(stderr, want) || strings.Contains(stderr, "hidden") {
			t.Errorf("exit code %d, %s%s", code, stdout, stderr)
		}
	}
	refused("appliance install --quayRoot "+s.root, s.client("credentials", "--quayRoot", s.root))
	s.secret(t, filepath.Join(s.root, "quay-config/pull-secret.json"), "puller", nodePassword)
	for _, want := range []string{"refuses the login of puller", "appliance install --quayRoot " + s.root} { // there is no such user
		refused(want, s.client("credentials", "--quayRoot", s.root))
	}
	_, err := s.admin.CreateUser(t.Context(), api.NewUser{Name: "puller", Role: "pull", Password: nodePassword})
	must(t, err)
	for _, bad := range []string{`hidden`, `{"auths":"hidden"}`, `null`, `["hidden"]`, `{"auths":{"quay.io":{"auth":"hidden`} {
		file := s.file(t, "bad.json", bad)
		refused("not", s.client("credentials", "--quayRoot", s.root, "--merge", file, "-o", file))
		if text, err := os.ReadFile(file); err != nil || string(text) != bad {
			t.Errorf("%s is changed to %s, %v", bad, text, err)
		}
	}
	refused("is for --user", s.client("credentials", "--password-stdin"))
	refused("no such file", s.client("credentials", "--quayRoot", s.root, "--merge", s.dir+"/none.json"))
	refused("it is a directory", s.client("credentials", "--quayRoot", s.root, "-o", s.dir))
}
