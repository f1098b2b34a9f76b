//go:build e2e

package main_test

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

const (
	manyLayers = 12
	layerSize  = 2 << 20
)

// layered returns the layers of an image, each with a file and a padding, and its manifest and configuration.
func layered(t *testing.T) (blobs [][]byte, manifest string) {
	t.Helper()
	var diffs, layers []string
	for n := range manyLayers {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		content := fmt.Appendf(nil, "layer %d", n)
		must(t, w.WriteHeader(&tar.Header{Name: fmt.Sprintf("file-%d", n), Mode: 0o644, Size: int64(len(content))}))
		_, err := w.Write(content)
		must(t, err)
		must(t, w.Close())
		blob := append(b.Bytes(), make([]byte, layerSize)...)
		blobs = append(blobs, blob)
		diffs = append(diffs, fmt.Sprintf("%q", digest.FromBytes(blob)))
		layers = append(layers, fmt.Sprintf(`{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":%q,"size":%d}`, digest.FromBytes(blob), len(blob)))
	}
	configuration := []byte(`{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[` + strings.Join(diffs, ",") + `]}}`)
	return append(blobs, configuration), fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[%s]}`,
		imageType, digest.FromBytes(configuration), len(configuration), strings.Join(layers, ","))
}

// wire is a way to an appliance that is cut while much is under way on it.
type wire struct {
	net.Listener
	mu   sync.Mutex
	left int64         // bytes that still come from the appliance; negative: no limit
	full chan struct{} // closed when none is left
	cut  chan struct{} // closed once the appliance is gone
}

// newWire leads to the address of a socket.
func newWire(t *testing.T, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	w := &wire{Listener: l, left: -1, full: make(chan struct{}), cut: make(chan struct{})}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return // it was cut
			}
			server, err := net.Dial("tcp", to)
			if err != nil {
				_ = client.Close()
				continue
			}
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() { _, _ = io.Copy(passing{w, client}, server); _ = client.Close() }()
		}
	}()
	return w
}

// passing counts what comes from an appliance.
type passing struct {
	*wire
	to net.Conn
}

func (p passing) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.left >= 0 {
		if p.left -= int64(len(b)); p.left < 0 {
			close(p.full)
			<-p.cut
			return 0, io.ErrClosedPipe
		}
	}
	return p.to.Write(b)
}

// arm has the wire full after some bytes more.
func (w *wire) arm(bytes int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.left = bytes
}

// pair are two appliances with an image of many layers and what cluster-config writes for both.
type pair struct {
	first, other *site
	wire         *wire
	dir, store   string
}

func newPair(t *testing.T) *pair {
	t.Helper()
	p := &pair{first: newSite(t), other: newSite(t)}
	p.wire = newWire(t, p.first.socket.Name())
	_, port, err := net.SplitHostPort(p.wire.Addr().String())
	must(t, err)
	p.first.address = "localhost:" + port
	blobs, manifest := layered(t)
	for _, s := range []*site{p.first, p.other} { // before there is an upstream, whose repositories cannot be pushed to
		for _, b := range blobs {
			must(t, s.pushBlob(t.Context(), "team/app", b))
		}
		_, err := s.demand(t.Context(), http.StatusCreated, http.MethodPut, "/v2/team/app/manifests/v1", strings.NewReader(manifest), "Content-Type", imageType)
		must(t, err)
		_, err = s.admin.CreateUser(t.Context(), api.NewUser{Name: "puller", Role: "pull", Password: nodePassword})
		must(t, err)
		s.secret(t, filepath.Join(filepath.Dir(config.Path(s.root)), "pull-secret.json"), "puller", nodePassword)
	}
	p.first.configure(t, func(c *config.Config) {
		_, err := fmt.Sscan(port, &c.Port)
		must(t, err)
		c.Upstreams = []config.Upstream{{Prefix: "team", URL: "https://vendor.example.com/team", Mode: config.ModeMirroredOnly}}
	})
	p.dir = filepath.Join(p.first.dir, "out")
	p.first.config(t, "--quayRoot", p.first.root, "--dir", p.dir, "--version", "4.20.3", "--also", p.other.address, "--also-ca", p.other.cfg.TLS.CA,
		"--also-pull-secret", filepath.Join(filepath.Dir(config.Path(p.other.root)), "pull-secret.json"))
	p.store, err = os.MkdirTemp("", "podman") // shorter than t.TempDir, as podman wants it
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(p.store)) })
	return p
}

// command is a client with what nodes are given.
func (p *pair) command(args ...string) *exec.Cmd {
	c := exec.Command(args[0], args[1:]...)
	c.Env = append(os.Environ(), "HOME="+p.first.dir, "SSL_CERT_FILE="+p.dir+"/ca-bundle.pem", "REGISTRY_AUTH_FILE="+p.dir+"/pull-secret.json",
		"CONTAINERS_REGISTRIES_CONF="+p.dir+"/registries.conf")
	return c
}

func (p *pair) podman(args ...string) *exec.Cmd {
	return p.command(append([]string{"podman", "--root", p.store + "/root", "--runroot", p.store + "/run", "--storage-driver", "vfs", "--events-backend", "none"}, args...)...)
}

// cuts runs a client, ends the first appliance by its process id once some layers and a part of one have come from it,
// and returns what became of the client.
func (p *pair) cuts(t *testing.T, c *exec.Cmd) (code int, said string) {
	t.Helper()
	p.wire.arm(layerSize * 7 / 2)
	go func() {
		<-p.wire.full
		_ = p.wire.Close()
		_ = p.first.process.Process.Kill()
		close(p.wire.cut)
	}()
	code, stdout, stderr := outcome(t, c)
	select {
	case <-p.wire.cut:
	default:
		t.Fatalf("the first appliance was not in the middle of it: exit code %d, %s%s", code, stdout, stderr)
	}
	return code, stdout + stderr
}

// podman pulls by the name of the source, and the first appliance is killed in the middle. A pull stays with the mirror
// that it began at: podman of Debian 12 ends it with an error, and the same pull begun again is completed from the
// other appliance, as is one by a name of the first itself, such as those of catalogs.
func TestAlso_firstDiesInTheMiddleOfAPull(t *testing.T) {
	p := newPair(t)
	image := "vendor.example.com/team/app:v1"
	code, said := p.cuts(t, p.podman("pull", "-q", image))
	if code != 0 {
		if code, stdout, stderr := outcome(t, p.podman("pull", "-q", image)); code != 0 {
			t.Fatalf("begun again: exit code %d, %s%s\nthe first time: %s", code, stdout, stderr, said)
		}
	}
	p.whole(t, image)
	image = p.first.address + "/team/app:v1"
	if code, stdout, stderr := outcome(t, p.podman("pull", "-q", image)); code != 0 {
		t.Errorf("by a name of the first: exit code %d, %s%s", code, stdout, stderr)
	}
	p.whole(t, image)
	p.other.kill()
	must(t, p.other.socket.Close())
	if code, stdout, stderr := outcome(t, p.podman("pull", "-q", image)); code == 0 {
		t.Errorf("with both gone it is pulled: %s%s", stdout, stderr)
	}
}

// whole checks that podman has all layers of an image, and removes it.
func (p *pair) whole(t *testing.T, image string) {
	t.Helper()
	code, stdout, stderr := outcome(t, p.podman("image", "inspect", "--format", "{{len .RootFS.Layers}}", image))
	if code != 0 || strings.TrimSpace(stdout) != fmt.Sprint(manyLayers) {
		t.Errorf("%s has %s layers: exit code %d, %s", image, strings.TrimSpace(stdout), code, stderr)
	}
	if code, stdout, stderr := outcome(t, p.podman("rmi", "-f", image)); code != 0 {
		t.Errorf("podman rmi: %d, %s%s", code, stdout, stderr)
	}
}
