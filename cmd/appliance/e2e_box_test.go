//go:build e2e

package main_test

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// Both sides of the box know the registry by this name, see testdata/sdbox.
const (
	boxHost       = "registry.sdbox.test"
	boxClient     = "10.98.0.1"
	boxClientName = "client.sdbox.test" // which the box alone knows
)

// box is a real systemd with a network of its own, and a client beside it.
type box struct {
	script string
	env    []string
	bin    string // directory of the programs under test
	home   string // where the client keeps its logins, certificates and images

	network string // the namespace of the client's network, once the box is up

	address string // of the registry, for clients
}

// newBox boots one. It goes away with the test.
func newBox(t *testing.T, name string) *box {
	t.Helper()
	script, err := filepath.Abs("../../testdata/sdbox/sdbox")
	if err != nil {
		t.Fatal(err)
	}
	dir := cmp.Or(os.Getenv("SDBOX_DIR"), "/var/tmp/appliance-sdbox")
	bin, err := programs()
	must(t, err)
	b := &box{script: script, bin: bin, home: t.TempDir(), address: registryAddress}
	name = ownName(t, dir, name)
	b.network = filepath.Join(dir, name, "net-outside")
	b.env = append(os.Environ(),
		"SDBOX_DIR="+dir,
		"SDBOX_NAME="+name,
		"HOME="+b.home,
		"REGISTRY_AUTH_FILE="+filepath.Join(b.home, "auth.json"),
		"XDG_RUNTIME_DIR="+filepath.Join(b.home, "run"),
	)
	for _, dir := range []string{"run", "certs"} {
		if err := os.Mkdir(filepath.Join(b.home, dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if t.Failed() {
			out, _ := b.run("exec", "journalctl", "--no-pager", "-n", "40", "-u", "appliance.service")
			t.Logf("the service's last lines:\n%s", out)
		}
		if out, err := b.run("down"); err != nil {
			t.Errorf("take the box away: %v\n%s", err, out)
		}
	})
	if out, err := b.run("down"); err != nil {
		t.Fatalf("take away what an earlier run left: %v\n%s", err, out)
	}
	b.must(t, "up")
	b.must(t, "push", filepath.Join(b.bin, "appliance"), "/root/appliance")
	return b
}

// ownName returns the first of name, name2, ... that no other run on this machine has. It is the
// test's until that ends, and a box that a killed run has left is taken away by a later one.
func ownName(t *testing.T, dir, name string) string {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for n, own := 1, name; ; n, own = n+1, fmt.Sprint(name, n+1) {
		f, err := os.Create(filepath.Join(dir, ".test-"+own))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := durable.Lock(f, durable.Exclusive); err == nil {
			return own
		} else if !errors.Is(err, durable.ErrLocked) {
			t.Fatal(err)
		}
	}
}

func TestBox_runsHaveBoxesOfTheirOwn(t *testing.T) {
	dir := t.TempDir()
	first, second := ownName(t, dir, "installed"), ownName(t, dir, "installed")
	if first != "installed" || second != "installed2" {
		t.Errorf("two runs have %s and %s", first, second)
	}
	t.Run("its end gives a name back", func(t *testing.T) { ownName(t, dir, "installed") })
	if third := ownName(t, dir, "installed"); third != "installed3" {
		t.Errorf("the next run has %s", third)
	}
}

// programs builds what is tested, as make build does, once for all boxes: the linker takes longer than a box
// does to boot.
var programs = sync.OnceValues(func() (dir string, err error) {
	self, err := exec.LookPath("appliance")
	if err != nil {
		return "", err
	}
	dir = filepath.Join(filepath.Dir(filepath.Dir(self)), "programs") // TestMain removes it with self
	if err := os.Mkdir(dir, 0o755); err != nil {
		return "", err
	}
	if err := errors.Join(build(dir, "sample-upstream"), build(dir, "appliance-helm")); err != nil {
		return "", err
	}
	helm, err := exec.Command("gzip", "-1nc", filepath.Join(dir, "appliance-helm")).Output()
	if err != nil {
		return "", fmt.Errorf("compress appliance-helm: %w", err)
	}
	inside, overlay := filepath.Join(dir, "appliance-helm.gz"), filepath.Join(dir, "overlay.json")
	place, err := filepath.Abs("appliance-helm.gz")
	if err != nil {
		return "", err
	}
	if err := errors.Join(
		os.WriteFile(inside, helm, 0o600),
		os.WriteFile(overlay, fmt.Appendf(nil, `{"Replace":{%q:%q}}`, place, inside), 0o600),
		os.Remove(filepath.Join(dir, "appliance-helm")), // which the test is not to find beside it
	); err != nil {
		return "", err
	}
	return dir, build(dir, "appliance", "-tags", "helm", "-overlay", overlay)
})

// build builds a program as it is shipped: without the tables of debuggers, which take the linker long.
func build(dir, name string, flags ...string) error {
	args := append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", filepath.Join(dir, name)}, append(flags, "../"+name)...)
	c := exec.Command("go", args...)
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := c.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return nil
}

// limit is how long one command may take before the test gives up on it, also one that has to build
// the box's base first; no test measures time by it.
const limit = 20 * time.Minute

// run runs one command of the box script and returns all that it printed.
func (b *box) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c := exec.CommandContext(ctx, b.script, args...)
	c.Env = b.env
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	c.WaitDelay = 10 * time.Second
	err := c.Run()
	return out.String(), err
}

func (b *box) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := b.run(args...)
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// fails expects a failure whose output contains every one of texts.
func (b *box) fails(t *testing.T, texts []string, args ...string) string {
	t.Helper()
	out, err := b.run(args...)
	if err == nil {
		t.Fatalf("%s succeeded:\n%s", strings.Join(args, " "), out)
	}
	for _, text := range texts {
		if !strings.Contains(out, text) {
			t.Errorf("%s: its output does not say %q:\n%s", strings.Join(args, " "), text, out)
		}
	}
	return out
}

// inside runs a command as root in the box.
func (b *box) inside(t *testing.T, args ...string) string {
	t.Helper()
	return b.must(t, append([]string{"exec"}, args...)...)
}

// client runs a command in the client's network.
func (b *box) client(t *testing.T, args ...string) string {
	t.Helper()
	return b.must(t, append([]string{"outside"}, args...)...)
}

// podman keeps its images apart from this machine's, and trusts the registry's CA and nothing less.
func (b *box) podman(args ...string) []string {
	store := filepath.Join(b.home, "podman")
	return append([]string{
		"outside", "podman", "--root", store, "--runroot", filepath.Join(b.home, "run", "podman"),
		"--storage-driver", "vfs", "--events-backend", "none",
	}, args...)
}

func (b *box) certs() string { return filepath.Join(b.home, "certs") }

// trust fetches the CA as the documentation says and gives it to the clients.
func (b *box) trust(t *testing.T) {
	t.Helper()
	pem := b.inside(t, "cat", "/root/quay-install/quay-rootCA/rootCA.pem")
	if err := os.WriteFile(filepath.Join(b.certs(), "ca.crt"), []byte(pem), 0o600); err != nil {
		t.Fatal(err)
	}
}

// background starts a program in the client's network; it ends with the test.
func (b *box) background(t *testing.T, args ...string) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, b.script, append([]string{"outside"}, args...)...)
	c.Env = b.env
	c.Cancel = func() error { return c.Process.Signal(os.Interrupt) }
	c.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = c.Wait() // ended by us
	}()
	stop = func() { cancel(); <-done }
	t.Cleanup(stop)
	return stop
}

// sampleUpstream serves the generated content at an address that both sides reach.
func (b *box) sampleUpstream(t *testing.T) (address string, stop func()) {
	t.Helper()
	address = boxClient + ":5055"
	ready := filepath.Join(b.home, "upstream.ready")
	_ = os.Remove(ready)
	stop = b.background(t, filepath.Join(b.bin, "sample-upstream"), "--listen", address, "--ready-file", ready,
		"--key-file", b.releaseKey())
	waitFor(t, "the sample upstream", func() error {
		_, err := os.Stat(ready)
		return err
	})
	return address, stop
}

// releaseKey is the file with the public key of the sample's releases.
func (b *box) releaseKey() string { return filepath.Join(b.home, "release-key.asc") }

// waitFor polls a condition that will hold soon, and fails when it does not within a minute.
func waitFor(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s: %v", what, err)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// healthy waits until the registry answers its clients.
func (b *box) healthy(t *testing.T) {
	t.Helper()
	waitFor(t, "health of "+boxHost, func() error {
		out, err := b.run("outside", "curl", "-fsS", "--cacert", filepath.Join(b.certs(), "ca.crt"),
			fmt.Sprintf("https://%s:8443/health/instance", boxHost))
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		if !strings.Contains(out, `"status_code":200`) {
			return fmt.Errorf("it says %s", out)
		}
		return nil
	})
}
