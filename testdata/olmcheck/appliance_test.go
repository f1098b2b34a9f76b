package olmcheck

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

const (
	user, password = "init", "long-enough"
	// catalogName is where the catalog of the sample upstream is.
	catalogName = sample.CatalogRepository + ":" + sample.CatalogTag
)

// site is an appliance, which is its program, and an upstream.
type site struct {
	program, root  string
	registry, from string // host and port
}

func newSite(t *testing.T) *site {
	t.Helper()
	upstream := httptest.NewUnstartedServer(nil)
	content, err := sample.New(upstream.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	upstream.Config.Handler = content.Handler()
	upstream.Start()
	t.Cleanup(upstream.Close)
	s := &site{filepath.Join(t.TempDir(), "appliance"), t.TempDir(), "localhost:" + freePort(t), upstream.Listener.Addr().String()}
	build := exec.Command("go", "build", "-o", s.program, "./cmd/appliance")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build the appliance: %v\n%s", err, text)
	}
	s.run(t, "", "prepare", "--quayHostname", s.registry, "--quayRoot", s.root)
	s.run(t, password, "user", "add", user, "--role", "admin", "--password-stdin", "--quayRoot", s.root)
	start(t, s.program, "serve", "--quayRoot", s.root)
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		if c, err := net.Dial("tcp", s.registry); err == nil {
			c.Close()
			return s
		}
		if time.Now().After(end) {
			t.Fatal("the appliance does not serve")
		}
	}
}

// freePort returns a port that a program can listen on.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func (s *site) run(t *testing.T, in string, args ...string) {
	t.Helper()
	c := exec.Command(s.program, args...)
	c.Env = append(os.Environ(), "HOME="+s.root)
	c.Stdin = strings.NewReader(in)
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("appliance %v: %v\n%s", args, err, text)
	}
}

// start runs a program until the test ends, and returns a channel that has what it wrote when it
// ends by itself.
func start(t *testing.T, program string, args ...string) <-chan string {
	t.Helper()
	c := exec.Command(program, args...)
	var out bytes.Buffer
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	ended, done := make(chan string, 1), make(chan struct{})
	go func() {
		defer close(done)
		err := c.Wait()
		ended <- fmt.Sprintf("%v\n%s", err, out.String())
	}()
	t.Cleanup(func() { _ = c.Process.Kill(); <-done })
	return ended
}

// mirror mirrors a part of the catalog, and returns the CatalogSource that the run has written.
func (s *site) mirror(t *testing.T, template string) []byte {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	_ = os.Mkdir(filepath.Join(dir, "certs"), 0o700)
	ca, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	write("certs/ca.crt", string(ca))
	set := "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n  - catalog: " + s.from + "/" + catalogName +
		"\n    targetCatalogSourceTemplate: " + write("template.yaml", template) +
		"\n    packages: [{name: sample-database, channels: [{name: stable, minVersion: 1.1.0}]}]\n"
	auth := write("auth.json", fmt.Sprintf(`{"auths":{%q:{"username":%q,"password":%q}}}`, s.registry, user, password))
	s.run(t, "", "mirror", "-c", write("set.yaml", set), "docker://"+s.registry, "--workspace", "file://"+dir+"/ws",
		"--src-tls-verify=false", "--dest-cert-dir", filepath.Join(dir, "certs"), "--authfile", auth)
	files, _ := filepath.Glob(filepath.Join(dir, "ws", "working-dir", "cluster-resources", "cs-*.yaml"))
	if len(files) != 1 {
		t.Fatalf("the CatalogSources are %v", files)
	}
	source, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	return source
}

func (s *site) ca() string { return filepath.Join(s.root, "quay-rootCA", "rootCA.pem") }

// options are of a client that trusts the appliance's CA and has a login.
func (s *site) options(t *testing.T) []remote.Option {
	t.Helper()
	pem, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	return []remote.Option{remote.WithAuth(&authn.Basic{Username: user, Password: password}),
		remote.WithTransport(&http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}})}
}

// pull returns an image of the appliance.
func (s *site) pull(t *testing.T, ref string) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(parsed, s.options(t)...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}
