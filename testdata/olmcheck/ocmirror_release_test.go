//go:build ocmirror

package olmcheck

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"log"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// Archives with a release, the update graph and a chart are read by either program: what is then at
// the registry, and what is written for a cluster, is the same.
func TestOCMirror_releases(t *testing.T) {
	s, dir := newSite(t), t.TempDir()
	s.buildHelm(t)
	s.public(t, "api.openshift.com", "registry.access.redhat.com")
	set := write(t, filepath.Join(dir, "set.yaml"), fmt.Sprintf(`kind: ImageSetConfiguration
apiVersion: mirror.openshift.io/v2alpha1
mirror:
  platform: {graph: true, architectures: [amd64], channels: [{name: stable-4.18, minVersion: 4.18.1, maxVersion: 4.18.2}]}
  helm: {repositories: [{name: sample, url: 'http://%s/charts', charts: [{name: sample-app, version: 1.0.0}]}]}
`, s.from))
	theirs, ours, carried := filepath.Join(dir, "theirs"), filepath.Join(dir, "ours"), filepath.Join(dir, "carried")
	s.ocMirror(t, "-c", set, "file://"+theirs)
	s.mirror(t, "-c", set, "file://"+ours)
	carry(t, ours, carried)
	s.ocMirror(t, "-c", set, "--from", "file://"+carried, "docker://"+s.registry+"/from-ours")
	carry(t, theirs, filepath.Join(dir, "imported"))
	s.mirror(t, "-c", set, "--from", "file://"+filepath.Join(dir, "imported"), "docker://"+s.registry+"/from-theirs")

	const graph = "openshift/graph-image:latest" // of which a layer of oc-mirror's has times
	byOurs, byTheirs := s.images(t, "from-theirs/"), s.images(t, "from-ours/")
	if byOurs[graph] == "" || byTheirs[graph] == "" {
		t.Errorf("the graph images are %q and %q", byOurs[graph], byTheirs[graph])
	}
	delete(byOurs, graph)
	delete(byTheirs, graph)
	if len(byTheirs) < 20 || !maps.Equal(byOurs, byTheirs) {
		t.Errorf("of oc-mirror's archive there is\n%v\nand of ours\n%v", byOurs, byTheirs)
	}
	for _, tag := range []string{"4.18.1-x86_64", "4.18.2-x86_64"} {
		if got, want := byOurs["openshift/release-images:"+tag], s.digest(t, sample.ReleaseRepository+":"+tag); got != want {
			t.Errorf("release %s is %s, and %s at the upstream", tag, got, want)
		}
	}
	if a, b := s.graphData(t, "/from-theirs/"+graph), s.graphData(t, "/from-ours/"+graph); len(a) < 3 || !maps.Equal(a, b) {
		t.Errorf("the graph data are %v and %v", a, b)
	}
	for _, file := range []string{"cluster-resources/signature-configmap.yaml", "cluster-resources/updateService.yaml", "cluster-resources/idms-oc-mirror.yaml", "helm/charts/sample-app-1.0.0.tgz"} {
		a, b := resource(t, filepath.Join(dir, "imported"), file), resource(t, carried, file)
		if a == "" || a != b {
			t.Errorf("%s is, line by line,\n%s\nand by oc-mirror\n%s", file, a, b)
		}
	}
}

// buildHelm builds the program that renders charts, beside the appliance's.
func (s *site) buildHelm(t *testing.T) {
	t.Helper()
	c := exec.Command("go", "build", "-o", filepath.Join(filepath.Dir(s.program), "appliance-helm"), "./cmd/appliance-helm")
	c.Dir = "../.."
	c.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := c.CombinedOutput(); err != nil {
		t.Fatalf("build appliance-helm: %v\n%s", err, text)
	}
}

// carry copies the archives of a directory, and nothing else of the workspace that wrote them.
func carry(t *testing.T, from, to string) {
	t.Helper()
	archives, _ := filepath.Glob(filepath.Join(from, "mirror_*.tar"))
	if len(archives) == 0 {
		t.Fatalf("there is no archive in %s", from)
	}
	for _, archive := range archives {
		text, err := os.ReadFile(archive)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, filepath.Base(archive)), string(text))
	}
}

// public has the upstream be the hosts of the update service and of the graph's base image, whose
// names oc-mirror has built in: by a proxy, and with a certificate that the commands trust.
func (s *site) public(t *testing.T, hosts ...string) {
	t.Helper()
	certificate, ca := certified(t, hosts)
	to := &url.URL{Scheme: "http", Host: s.from}
	far := httptest.NewUnstartedServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(to) }})
	far.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
	far.StartTLS()
	t.Cleanup(far.Close)
	proxy := httptest.NewServer(tunnel(far.Listener.Addr().String(), hosts))
	t.Cleanup(proxy.Close)
	own, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s.env = []string{
		"HTTPS_PROXY=" + proxy.URL, "NO_PROXY=localhost,127.0.0.1", "UPDATE_URL_OVERRIDE=",
		"SSL_CERT_FILE=" + write(t, filepath.Join(dir, "ca.pem"), string(own)+ca),
		"OCP_SIGNATURE_URL=http://" + s.from + sample.SignaturesPath,
		"OCP_SIGNATURE_VERIFICATION_PK=" + write(t, filepath.Join(dir, "key.asc"), s.file(t, sample.SignatureKeyPath)),
	}
}

// certified returns a certificate that signs itself, as clients take one too, and its PEM.
func certified(t *testing.T, hosts []string) (tls.Certificate, string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	of := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "public"}, DNSNames: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, of, of, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// tunnel is a proxy that leads to an address, whatever the host that is asked for.
func tunnel(to string, hosts []string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if host, _, _ := net.SplitHostPort(r.Host); r.Method != http.MethodConnect || !slices.Contains(hosts, host) {
			http.Error(w, "no way to "+r.Host, http.StatusForbidden)
			return
		}
		far, err := net.Dial("tcp", to)
		if err != nil {
			log.Print(err)
			return
		}
		near, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			log.Print(err)
			return
		}
		_, _ = io.WriteString(near, "HTTP/1.1 200 OK\r\n\r\n")
		go func() { _, _ = io.Copy(far, near); far.Close() }()
		_, _ = io.Copy(near, far)
		near.Close()
	}
}

// file returns a file of the upstream.
func (s *site) file(t *testing.T, path string) string {
	t.Helper()
	r, err := http.Get("http://" + s.from + path)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	text, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// graphData returns the files of a graph image.
func (s *site) graphData(t *testing.T, image string) map[string]string {
	t.Helper()
	files, root := map[string]string{}, os.DirFS(filepath.Join(extract(t, s.pull(t, s.registry+image)), "var/lib/cincinnati-graph-data"))
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := fs.ReadFile(root, name)
		files[name] = string(text)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// resource returns the lines of a file of a working directory, sorted, since oc-mirror has no order:
// without what names the program and the time, the registry's path, and the number of a signature,
// which is of all releases for oc-mirror.
func resource(t *testing.T, workspace, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(workspace, "working-dir", file))
	if err != nil {
		t.Fatal(err)
	}
	own := regexp.MustCompile(`(?m)^ *(createdAt|createdBy|oc-mirror_version): .*\n|/from-(ours|theirs)\b`)
	number := regexp.MustCompile(`(?m)^( *sha256-[0-9a-f]{64})-[0-9]+:`)
	lines := strings.Split(number.ReplaceAllString(own.ReplaceAllString(string(text), ""), "$1:"), "\n")
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
