//go:build containers_image_openpgp

package olmcheck

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.podman.io/image/v5/copy"
	"go.podman.io/image/v5/directory"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"
	"go.podman.io/image/v5/types"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// A node is CRI-O's and podman's library with the configuration of a node: the appliance is the mirror
// of an upstream, and attachments are looked for there.
type node struct {
	context types.SystemContext
	from    string // host and port of the upstream
}

func (s *site) node(t *testing.T, upstream string) *node {
	t.Helper()
	dir := t.TempDir()
	ca, err := os.ReadFile(s.ca())
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "certs", s.registry, "ca.crt"), string(ca))
	write(t, filepath.Join(dir, "registries.d", "sigstore.yaml"), "docker:\n  "+s.registry+":\n    use-sigstore-attachments: true\n")
	return &node{from: upstream, context: types.SystemContext{
		DockerPerHostCertDirPath: filepath.Join(dir, "certs"),
		RegistriesDirPath:        filepath.Join(dir, "registries.d"),
		AuthFilePath:             s.login(t, filepath.Join(dir, "auth.json")),
		SystemRegistriesConfPath: write(t, filepath.Join(dir, "registries.conf"),
			fmt.Sprintf("[[registry]]\nlocation = %q\n[[registry.mirror]]\nlocation = %q\n", upstream, s.registry+"/through")),
		SystemRegistriesConfDirPath: dir + "/none", BlobInfoCacheDir: filepath.Join(dir, "cache"),
	}}
}

// pull pulls an image of the upstream, which is judged by a key; "" for none.
func (n *node) pull(t *testing.T, image, key string) error {
	t.Helper()
	requirement := `{"type":"insecureAcceptAnything"}`
	if key != "" {
		requirement = fmt.Sprintf(`{"type":"sigstoreSigned","keyPath":%q,"signedIdentity":{"type":"matchRepository"}}`, key)
	}
	policy, err := signature.NewPolicyFromBytes([]byte(`{"default":[` + requirement + `]}`))
	if err != nil {
		t.Fatal(err)
	}
	judge, err := signature.NewPolicyContext(policy)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = judge.Destroy() }()
	from, err := docker.ParseReference("//" + n.from + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	to, err := directory.NewReference(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	_, err = copy.Image(t.Context(), judge, to, from, &copy.Options{SourceCtx: &n.context})
	return err
}

// keys writes the key of the sample's images, and another one.
func keys(t *testing.T, content *sample.Content) (right, wrong string) {
	t.Helper()
	other, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(other.Public())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	return write(t, filepath.Join(dir, "right"), string(content.ImageKey())),
		write(t, filepath.Join(dir, "wrong"), string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})))
}

// What an appliance pulls through is judged as at the upstream by the library of nodes, and so it is
// when the upstream is gone.
func TestCRIO_judgesWhatIsPulledThrough(t *testing.T) {
	s := newSite(t)
	far := httptest.NewUnstartedServer(nil)
	n := s.node(t, far.Listener.Addr().String())
	content, err := sample.New(n.from)
	if err != nil {
		t.Fatal(err)
	}
	far.Config.Handler = content.Handler()
	far.Start()
	t.Cleanup(far.Close)
	s.run(t, "", "upstream", "add", "through", far.URL, "--quayRoot", s.root)
	right, wrong := keys(t, content)
	for _, when := range []string{"the upstream up", "the upstream gone"} {
		for _, c := range []struct{ image, key, refused string }{
			{"samples/signed:v1", right, ""},
			{"samples/signed:v1", wrong, "cryptographic signature verification failed"},
			{"samples/oci:v1", right, "no signature exists"},
			{"samples/oci:v1", "", ""},
		} {
			err := n.pull(t, c.image, c.key)
			if (err == nil) != (c.refused == "") || err != nil && !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s, %s by %s: %v", when, c.image, filepath.Base(c.key), err)
			}
		}
		far.Close()
	}
}
