package olmcheck

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
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
	"sigs.k8s.io/yaml"

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

	env []string // of the commands, beside that of the test
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
	s := &site{program: filepath.Join(t.TempDir(), "appliance"), root: t.TempDir(), registry: "localhost:" + freePort(t), from: upstream.Listener.Addr().String()}
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
	c.Env = append(append(os.Environ(), "HOME="+s.root), s.env...)
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

// write writes a file, and returns its name.
func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// imageSet writes an image set with a part of the catalog. extra are more lines of its entry, and
// of mirror after it.
func (s *site) imageSet(t *testing.T, extra string) string {
	t.Helper()
	return write(t, filepath.Join(t.TempDir(), "set.yaml"), "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  operators:\n  - catalog: "+
		s.from+"/"+catalogName+"\n    packages: [{name: sample-database, channels: [{name: stable, minVersion: 1.1.0}]}]\n"+extra)
}

// mirror runs the command, with what source and destination want of a client.
func (s *site) mirror(t *testing.T, args ...string) {
	t.Helper()
	dir := t.TempDir()
	ca, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	certs := filepath.Dir(write(t, filepath.Join(dir, "certs", "ca.crt"), string(ca)))
	s.run(t, "", append([]string{"mirror", "--src-tls-verify=false", "--dest-cert-dir", certs, "--authfile", s.login(t, filepath.Join(dir, "auth.json"))}, args...)...)
}

// login writes a file with the login at the appliance.
func (s *site) login(t *testing.T, name string) string {
	t.Helper()
	return write(t, name, fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, s.registry, base64.StdEncoding.EncodeToString([]byte(user+":"+password))))
}

// source mirrors the catalog, and returns the CatalogSource that the run has made of a template.
func (s *site) source(t *testing.T, template string) (source catalogSource) {
	t.Helper()
	dir := t.TempDir()
	set := s.imageSet(t, "    targetCatalogSourceTemplate: "+write(t, filepath.Join(dir, "template.yaml"), template)+"\n")
	s.mirror(t, "-c", set, "docker://"+s.registry, "--workspace", "file://"+dir)
	files, _ := filepath.Glob(filepath.Join(dir, "working-dir", "cluster-resources", "cs-*.yaml"))
	if len(files) != 1 {
		t.Fatalf("the CatalogSources are %v", files)
	}
	text, err := os.ReadFile(files[0])
	if err == nil {
		err = yaml.Unmarshal(text, &source)
	}
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
func (s *site) pull(t *testing.T, ref string, extra ...remote.Option) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	image, err := remote.Image(parsed, append(s.options(t), extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	return image
}
