//go:build e2e

package main_test

import (
	"fmt"
	"io/fs"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/config"
)

// through is an appliance that pulls through from an upstream, and clients that know the names of the
// upstream. They cannot reach that by themselves, since it has no TLS.
type through struct {
	*site
	far   *httptest.Server
	names string // host:port of the upstream
	home  string // of the clients; short, for sockets
}

func newThrough(t *testing.T, far *httptest.Server) *through {
	t.Helper()
	w := &through{site: newSite(t), far: far, names: far.Listener.Addr().String()}
	w.configure(t, func(c *config.Config) {
		c.Upstreams = []config.Upstream{{Prefix: "through", URL: far.URL}} // without freshness: each pull asks
	})
	var err error
	w.home, err = os.MkdirTemp("", "e2e")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(w.home)) })
	w.write(t, "auth.json", w.login("pull", faultPassword))
	w.write(t, "registries.conf", fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", w.names, w.address+"/through"))
	w.write(t, ".config/containers/policy.json", `{"default":[{"type":"insecureAcceptAnything"}]}`)
	return w
}

func (w *through) write(t *testing.T, name, text string) {
	t.Helper()
	file := filepath.Join(w.home, name)
	must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	must(t, os.WriteFile(file, []byte(text), 0o600))
}

func (w *through) command(args ...string) *exec.Cmd {
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), "HOME="+w.home, "SSL_CERT_FILE="+w.cfg.TLS.CA, "REGISTRY_AUTH_FILE="+w.home+"/auth.json",
		"CONTAINERS_REGISTRIES_CONF="+w.home+"/registries.conf")
	return c
}

// fetch pulls an image into a store that has nothing, by the name that it has at the upstream.
type fetch func(t *testing.T, image string) (code int, said string)

// podman and skopeo are given the mirror by registries.conf.
func (w *through) podman(t *testing.T, image string) (int, string) {
	t.Helper()
	podman := []string{"podman", "--root", w.home + "/root", "--runroot", w.home + "/run", "--storage-driver", "vfs", "--events-backend", "none"}
	outcome(t, w.command(append(podman, "rmi", "-f", w.names+"/"+image)...))
	code, stdout, stderr := outcome(t, w.command(append(podman, "pull", "-q", w.names+"/"+image)...))
	return code, stdout + stderr
}

func (w *through) skopeo(t *testing.T, image string) (int, string) {
	t.Helper()
	code, stdout, stderr := outcome(t, w.copying(t, image, t.TempDir()))
	return code, stdout + stderr
}

// copying is skopeo, which in Debian 12 and RHEL 8 does not read the variable.
func (w *through) copying(t *testing.T, image, dir string) *exec.Cmd {
	t.Helper()
	return w.command("skopeo", "--registries-conf="+w.home+"/registries.conf", "copy", "-q", "docker://"+w.names+"/"+image, "dir:"+dir)
}

// containerd starts one, and returns how it pulls: by hosts.toml, which has it send ?ns= with the
// upstream's name.
func (w *through) containerd(t *testing.T) fetch {
	t.Helper()
	at := func(name string) string { return filepath.Join(w.home, "containerd", name) }
	w.write(t, "containerd/config.toml", fmt.Sprintf("version = 2\nroot = %q\nstate = %q\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n[grpc]\naddress = %q\n",
		at("root"), at("state"), at("sock")))
	w.write(t, "containerd/hosts/"+w.names+"/hosts.toml", fmt.Sprintf("server = \"https://%[1]s\"\n[host.\"https://%[1]s\"]\ncapabilities = [\"pull\", \"resolve\"]\nca = %[2]q\n",
		w.address, w.cfg.TLS.CA))
	daemon := w.command("containerd", "--config", at("config.toml"))
	daemon.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	log := &said{}
	daemon.Stdout, daemon.Stderr = log, log
	must(t, daemon.Start())
	t.Cleanup(func() {
		must(t, daemon.Process.Signal(syscall.SIGTERM))
		_ = daemon.Wait() // ended by us
	})
	ctr := func(args ...string) (int, string) {
		code, stdout, stderr := outcome(t, w.command(append([]string{"ctr", "--address", at("sock")}, args...)...))
		return code, stdout + stderr
	}
	waitFor(t, "containerd", func() error {
		if code, said := ctr("version"); code != 0 {
			return fmt.Errorf("%s\n%s", said, log)
		}
		return nil
	})
	return func(t *testing.T, image string) (int, string) {
		t.Helper()
		_, all := ctr("images", "ls", "-q")
		for name := range strings.FieldsSeq(all) {
			ctr("images", "rm", "--sync", name)
		}
		if _, left := ctr("content", "ls", "-q"); strings.TrimSpace(left) != "" {
			t.Errorf("containerd has %s already", left)
		}
		return ctr("images", "pull", "--hosts-dir", at("hosts"), "--user", "pull:"+faultPassword, "--snapshotter", "native", w.names+"/"+image)
	}
}

// Clients pull by the names of an upstream, and again when it is gone.
func TestThrough_clientsPullByUpstreamNames(t *testing.T) {
	far, _ := newUpstream(t)
	w := newThrough(t, far)
	clients := map[string]fetch{"podman": w.podman, "skopeo": w.skopeo, "containerd": w.containerd(t)}
	images := map[string]string{"podman": "samples/docker:v1", "skopeo": "samples/oci:v1", "containerd": "samples/oci-multi:v1"}
	pull := func(client, image, when string) {
		t.Helper()
		if code, said := clients[client](t, image); code != 0 {
			t.Errorf("%s, %s of %s: %s", when, client, image, said)
		}
	}
	for client := range clients {
		pull(client, images[client], "the upstream up")
	}
	far.Close()
	for client, pull1 := range clients {
		pull(client, images[client], "the upstream gone")
		if code, said := pull1(t, "samples/docker-multi:v1"); code == 0 {
			t.Errorf("%s gets what was never pulled: %s", client, said)
		}
	}
	pull("podman", images["skopeo"], "pulled by another client")
}

// debianSigstore is how podman of Debian 12 refuses every image with a sigstore signature, once it has
// found that. What the library of podman and CRI-O makes of it is in testdata/olmcheck.
const debianSigstore = "Debian-local change: sigstore disabled"

// A node looks for the attachments of each image: those that were pulled through stay, and one that
// does not exist is "not signed" and no failure, whether or not the upstream answers.
func TestThrough_clientsLookForSignatures(t *testing.T) {
	far, _ := newUpstream(t)
	w := newThrough(t, far)
	content, err := sample.New(w.names)
	must(t, err)
	w.write(t, "key.pub", string(content.ImageKey()))
	w.write(t, ".config/containers/registries.d/sigstore.yaml", fmt.Sprintf("docker:\n  %s:\n    use-sigstore-attachments: true\n", w.address))
	policy := func(scope string) {
		w.write(t, ".config/containers/policy.json", fmt.Sprintf(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{%q:[
			{"type":"sigstoreSigned","keyPath":%q,"signedIdentity":{"type":"matchRepository"}}]}}}`, w.names+"/"+scope, w.home+"/key.pub"))
	}
	for _, when := range []string{"the upstream up", "the upstream gone"} {
		policy("other")
		for _, image := range []string{"samples/signed:v1", "samples/oci:v1"} {
			if code, said := w.podman(t, image); code != 0 {
				t.Errorf("%s, podman of %s, which no policy covers: %s", when, image, said)
			}
		}
		dir := t.TempDir()
		if code, _, said := outcome(t, w.copying(t, "samples/signed:v1", dir)); code != 0 {
			t.Errorf("%s, skopeo: %s", when, said)
		}
		if signature, err := os.ReadFile(filepath.Join(dir, "signature-1")); !strings.Contains(string(signature), "simplesigning") {
			t.Errorf("%s, the signature is %q, %v", when, signature, err)
		}
		policy("samples")
		if code, said := w.podman(t, "samples/signed:v1"); code != 0 && !strings.Contains(said, debianSigstore) {
			t.Errorf("%s, podman of a signed image: %s", when, said)
		}
		if code, said := w.podman(t, "samples/oci:v1"); code == 0 || !strings.Contains(said, "no signature exists") {
			t.Errorf("%s, podman of an unsigned image: exit code %d, %s", when, code, said)
		}
		far.Close()
	}
}

// A pull that is begun again after a kill of the appliance gets the whole layer, of which the upstream
// sends only what had not arrived.
func TestThrough_killedInTheMiddleOfAPull(t *testing.T) {
	u := newHalfUpstream()
	far := httptest.NewServer(u)
	t.Cleanup(far.Close)
	w := newThrough(t, far)
	pull := w.copying(t, "big:v1", t.TempDir())
	said := &said{}
	pull.Stdout, pull.Stderr = said, said
	must(t, pull.Start())
	waitFor(t, "half of the layer", func() error {
		if got := w.arrived(t); got < int64(len(u.layer)/2) {
			return fmt.Errorf("%d bytes have arrived of %d\n%s", got, len(u.layer)/2, said)
		}
		return nil
	})
	w.kill()
	had, before := w.arrived(t), u.sent.Load()
	close(u.release)
	w.start(t)
	err := pull.Wait() // some versions go on by themselves
	dir := t.TempDir()
	if code, stdout, stderr := outcome(t, w.copying(t, "big:v1", dir)); code != 0 {
		t.Fatalf("again: %s%s\nthe first: %v, %s", stdout, stderr, err, said)
	}
	if n := u.sent.Load() - before; n > int64(len(u.layer))-had {
		t.Errorf("the upstream sent %d bytes more, and %d of %d had arrived", n, had, len(u.layer))
	}
}

// arrived returns the bytes of the largest file in the store.
func (w *through) arrived(t *testing.T) (most int64) {
	t.Helper()
	must(t, filepath.WalkDir(w.cfg.Storage, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return nil // it has been renamed
		}
		if info, err := e.Info(); err == nil {
			most = max(most, info.Size())
		}
		return nil
	}))
	return most
}
