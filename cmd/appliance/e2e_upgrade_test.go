//go:build e2e

package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
)

// upgradeUnderLoad pushes and pulls over new connections until the file stop is there, and writes each
// failure to the file failed: it has CA, login, address and directory as arguments.
const upgradeUnderLoad = `cd "$4" && n=0
while [ ! -e stop ]; do
	n=$((n+1)); echo "layer $n" > body; digest=$(sha256sum body | cut -d' ' -f1)
	curl -fsS --cacert "$1" -K "$2" -o /dev/null -X POST -H 'Content-Type: application/octet-stream' --data-binary @body \
		"https://$3/v2/load/image/blobs/uploads/?digest=sha256:$digest" 2>> failed && echo $digest >> pushed || echo "push $n" >> failed
	curl -fsS --cacert "$1" -K "$2" "https://$3/v2/load/image/blobs/sha256:$digest" 2>> failed | cmp -s - body || echo "pull $n" >> failed
done`

// TestUpgrade replaces an installed appliance by programs that are made of this one: a newer schema, a
// daemon that does not become healthy, and one that ends.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	b := newBox(t, "upgrade")
	next := b.variant(t, "next", map[string]string{newMigration: newTable})
	unwell := b.variant(t, "unwell", map[string]string{newMigration: newTable, healthCheck: checks(t, `return errors.New("made to be unwell")`)})
	ends := b.variant(t, "ends", map[string]string{newMigration: newTable, healthCheck: checks(t, `panic("made to end")`)})
	schema := func() string { // a daemon that ends leaves nothing of it in the WAL
		b.inside(t, "systemctl", "restart", "appliance.service")
		return b.inside(t, "sh", "-c", `od -A n -t u1 -j 63 -N 1 /root/quay-install/sqlite-storage/appliance.db`)
	}
	step := func(name string, f func(t *testing.T)) {
		if !t.Run(name, f) {
			t.FailNow()
		}
	}
	before := b.files(t)
	var old, first string
	step("there is nothing to upgrade", func(t *testing.T) {
		b.fails(t, []string{"there is no appliance to upgrade", "appliance install"}, "exec", "/root/appliance", "upgrade")
	})
	step("install", func(t *testing.T) {
		out := b.inside(t, "/root/appliance", "install", "--quayHostname", boxHost)
		m := installLine.FindStringSubmatch(out)
		if m == nil {
			t.Fatal(out)
		}
		b.trust(t)
		b.healthy(t)
		b.client(t, "skopeo", "login", "-u", "init", "-p", m[3], "--cert-dir", b.certs(), registryAddress)
		first = b.pushIndex(t, "first/day:v1")
		old = schema()
		b.fails(t, []string{"no earlier version to go back to"}, "exec", installed, "upgrade", "--rollback")
		if out := b.inside(t, "/root/appliance", "upgrade"); !strings.Contains(out, "nothing had to be changed") {
			t.Error(out)
		}
	})
	same := func(t *testing.T, want string) {
		t.Helper()
		b.healthy(t)
		if got := b.client(t, "skopeo", "inspect", "--raw", "--cert-dir", b.certs(), "docker://"+registryAddress+"/first/day:v1"); digest.FromString(got).String() != first {
			t.Errorf("the image is %s", got)
		}
		if got := schema(); got != want {
			t.Errorf("the schema is %s and not %s", got, want)
		}
		b.hasNoUpgrade(t)
	}
	step("a daemon that ends is taken back", func(t *testing.T) {
		b.fails(t, []string{"taken back"}, "exec", ends, "upgrade")
		same(t, old)
	})
	step("a power cut in the middle is taken back at boot", func(t *testing.T) {
		b.inside(t, "systemd-run", "--collect", unwell, "upgrade")
		waitFor(t, "the copy of before the migration", func() error {
			_, err := b.run("exec", "sh", "-c", "ls /root/quay-install/sqlite-storage/*.backup")
			return err
		})
		b.must(t, "kill")
		b.must(t, "up")
		same(t, old)
	})
	step("no request fails", func(t *testing.T) { b.upgradesUnderLoad(t, next) })
	step("a second upgrade changes nothing", func(t *testing.T) {
		if out := b.inside(t, next, "upgrade"); !strings.Contains(out, "nothing had to be changed") {
			t.Error(out)
		}
	})
	step("back and forth", func(t *testing.T) {
		b.fails(t, []string{"is lost", "nobody to ask"}, "exec", installed, "upgrade", "--rollback")
		b.inside(t, installed, "upgrade", "--rollback", "--autoApprove")
		same(t, old)
		b.inside(t, installed, "upgrade", "--rollback", "--autoApprove")
		b.healthy(t)
		if schema() == old {
			t.Error("the schema is the old one")
		}
	})
	step("images and database move", func(t *testing.T) { b.movesUnderLoad(t) })
	step("another port", func(t *testing.T) {
		b.inside(t, next, "upgrade", "--quayHostname", boxHost+":9443")
		b.client(t, "curl", "-fsS", "--cacert", filepath.Join(b.certs(), "ca.crt"), "https://"+boxHost+":9443/health/instance")
	})
	step("uninstall", func(t *testing.T) {
		b.inside(t, installed, "uninstall", "--autoApprove")
		if left := without(b.files(t), before); len(left) > 0 {
			t.Errorf("it has left %v", left)
		}
	})
}

// hasNoUpgrade looks for what is there while an upgrade is under way.
func (b *box) hasNoUpgrade(t *testing.T) {
	t.Helper()
	if left := b.inside(t, "sh", "-c", "ls -A /usr/local/bin/*.upgrade /etc/systemd/system/*recover* /etc/systemd/system/*/*recover* "+
		"/root/quay-install/run/upgrade /root/quay-install/quay-config/undo 2>/dev/null || true"); left != "" {
		t.Errorf("left: %s", left)
	}
}

// What variants of the program have others of, and with what.
const (
	newMigration = "../../registry/store/migrations/9999_of_a_test.sql"
	newTable     = "CREATE TABLE of_a_test (x INTEGER) STRICT;\n"

	healthCheck = "../../registry/health.go"
)

// checks returns the source of the health check with a statement before all others.
func checks(t *testing.T, statement string) string {
	t.Helper()
	text, err := os.ReadFile(healthCheck)
	must(t, err)
	line := "func (d *daemon) checkAuth(ctx context.Context) error {"
	changed := strings.Replace(string(text), line, line+"\n\t"+statement, 1)
	if changed == string(text) {
		t.Fatal("health.go has no checkAuth")
	}
	return changed
}

// variant builds the program with other contents of some files of its source, and returns its path in the box.
func (b *box) variant(t *testing.T, name string, contents map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	abs := func(path string) string {
		path, err := filepath.Abs(path)
		must(t, err)
		return path
	}
	replace := map[string]string{abs("appliance-helm.gz"): filepath.Join(b.bin, "appliance-helm.gz")}
	for path, content := range contents {
		replace[abs(path)] = filepath.Join(dir, filepath.Base(path))
		must(t, os.WriteFile(replace[abs(path)], []byte(content), 0o600))
	}
	overlay, err := json.Marshal(map[string]any{"Replace": replace})
	must(t, err)
	must(t, os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600))
	must(t, build(dir, "appliance", "-tags", "helm", "-overlay", filepath.Join(dir, "overlay.json")))
	to := "/root/" + name
	b.must(t, "push", filepath.Join(dir, "appliance"), to)
	return to
}

func (b *box) upgradesUnderLoad(t *testing.T, program string) {
	t.Helper()
	b.underLoad(t, func() { b.inside(t, program, "upgrade") })
	if out := b.inside(t, installed, "verify", "--content"); !strings.Contains(out, "no problem") && !strings.Contains(out, "nothing") {
		t.Logf("verify: %s", out)
	}
}

// underLoad has clients push and pull while do runs, none of which may fail, and looks for all that they
// have pushed.
func (b *box) underLoad(t *testing.T, do func()) {
	t.Helper()
	dir := t.TempDir()
	c := exec.Command(b.script, "outside", "bash", "-c", upgradeUnderLoad, "load", filepath.Join(b.certs(), "ca.crt"), b.curlLogin(t), registryAddress, dir)
	c.Env = b.env
	out := &strings.Builder{}
	c.Stdout, c.Stderr = out, out
	must(t, c.Start())
	pushed := func() []string {
		text, _ := os.ReadFile(filepath.Join(dir, "pushed"))
		return strings.Fields(string(text))
	}
	enough := func(n int) {
		waitFor(t, "pushes", func() error {
			if len(pushed()) < n {
				return fmt.Errorf("%d of %d: %s", len(pushed()), n, out)
			}
			return nil
		})
	}
	enough(10)
	began := len(pushed())
	do()
	t.Logf("%d pushes and pulls meanwhile", len(pushed())-began)
	enough(len(pushed()) + 10)
	must(t, os.WriteFile(filepath.Join(dir, "stop"), nil, 0o600))
	must(t, c.Wait())
	if failed, err := os.ReadFile(filepath.Join(dir, "failed")); err != nil || len(failed) > 0 {
		t.Errorf("%v\n%s", err, failed)
	}
	b.hasBlobs(t, "load/image", pushed())
}

// hasBlobs reads blobs of a repository, by one client.
func (b *box) hasBlobs(t *testing.T, repository string, hashes []string) {
	t.Helper()
	var requests strings.Builder
	for _, hash := range hashes {
		fmt.Fprintf(&requests, "url = \"https://%s/v2/%s/blobs/sha256:%s\"\noutput = /dev/null\n", registryAddress, repository, hash)
	}
	path := filepath.Join(t.TempDir(), "requests")
	must(t, os.WriteFile(path, []byte(requests.String()), 0o600))
	b.client(t, "curl", "-fsS", "--fail-early", "--cacert", filepath.Join(b.certs(), "ca.crt"), "-K", b.curlLogin(t), "-K", path)
}
