//go:build e2e

package main_test

import (
	"debug/buildinfo"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
)

// TestFIPS has a registry that may use certified algorithms alone (https://go.dev/doc/security/fips140) set
// up, and skopeo log in, push and pull.
func TestFIPS(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("GOFIPS140", "certified") // as cmd/dist builds it
	// Everything is compiled anew with the certified module: optimizations would take a third of the time, and show nothing.
	must(t, build(dir, "appliance", "-gcflags=all=-N -l"))
	info, err := buildinfo.ReadFile(filepath.Join(dir, "appliance"))
	must(t, err)
	if !slices.ContainsFunc(info.Settings, func(s debug.BuildSetting) bool { return s.Key == "GOFIPS140" && strings.HasPrefix(s.Value, "v1.") }) {
		t.Errorf("the program does not have the certified module: %v", info.Settings)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	address := fmt.Sprintf("localhost:%d", l.Addr().(*net.TCPAddr).Port)
	must(t, l.Close())
	root := filepath.Join(dir, "root")
	appliance := func(stdin string, args ...string) *exec.Cmd {
		c := exec.Command(filepath.Join(dir, "appliance"), append(args, "--quayRoot", root)...)
		c.Env, c.Stdin = append(os.Environ(), "GODEBUG=fips140=only"), strings.NewReader(stdin)
		return c
	}
	run := func(c *exec.Cmd) {
		t.Helper()
		if out, err := c.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", c, err, out)
		}
	}
	run(appliance("", "prepare", "--quayHostname", address))
	run(appliance("password", "user", "add", "init", "--role", "admin", "--password-stdin"))
	log := &strings.Builder{}
	serve := appliance("", "serve")
	serve.Stdout, serve.Stderr = log, log
	must(t, serve.Start())
	t.Cleanup(func() {
		_ = serve.Process.Kill()
		_ = serve.Wait() // killed
		if t.Failed() {
			t.Log(log)
		}
	})
	client := func(args ...string) *exec.Cmd {
		return exec.Command("skopeo", append(args, "--authfile", filepath.Join(dir, "auth.json"))...)
	}
	trust := filepath.Join(root, "quay-rootCA")
	waitFor(t, "a login", func() error {
		return client("login", "-u", "init", "-p", "password", "--cert-dir", trust, address).Run()
	})
	path, err := layout.Write(filepath.Join(dir, "image"), empty.Index)
	must(t, err)
	must(t, path.AppendImage(ociImage(t, "amd64")))
	run(client("copy", "--dest-cert-dir", trust, "oci:"+filepath.Join(dir, "image"), "docker://"+address+"/a/image:v1"))
	run(client("copy", "--src-cert-dir", trust, "docker://"+address+"/a/image:v1", "oci:"+filepath.Join(dir, "back")))
	run(appliance("", "gc"))
}
