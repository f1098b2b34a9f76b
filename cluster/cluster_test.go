package cluster_test

import (
	"bytes"
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

const (
	address    = "mirror.example.com:8443"
	second     = "other.example.com:8443"
	vendor     = "quay.io/openshift-release-dev/"
	payload    = digest.Digest("sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef")
	secretAuth = "cHVsbGVyOnMzY3JldA==" // of puller:s3cret
)

// certificate returns a certificate, another one for each fill.
func certificate(fill byte) []byte {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{fill}, ed25519.SeedSize))
	of := &x509.Certificate{SerialNumber: big.NewInt(int64(fill)), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(nil, of, of, key.Public(), key)
	if err != nil {
		panic(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// mirrored returns what an appliance serves that has a release, a catalog, the graph and an image.
func mirrored(t *testing.T) []resources.File {
	t.Helper()
	return render(t, resources.Mirrored{
		Images: []resources.Image{
			{Category: "release", Source: vendor + "ocp-release", Destination: address + "/openshift/release-images", ByDigest: true, ByTag: true},
			{Category: "release", Source: vendor + "ocp-v4.0-art-dev", Destination: address + "/openshift/release", ByDigest: true, ByTag: true},
			{Category: "operator", Source: "registry.redhat.io/op/bundle", Destination: address + "/op/bundle", ByDigest: true},
			{Category: "generic", Source: "quay.io/team/app", Destination: address + "/team/app", ByTag: true},
		},
		Signatures: []resources.Signature{{Digest: payload, Raw: []byte("a signature")}},
		Catalogs:   []resources.Catalog{{Image: address + "/redhat/redhat-operator-index:v4.20"}},
		Updates:    &resources.UpdateService{GraphImage: address + "/openshift/graph-image:latest", Releases: address + "/openshift/release-images"},
	})
}

func render(t *testing.T, m resources.Mirrored) []resources.File {
	t.Helper()
	files, err := resources.Render(m, resources.Options{Created: time.Unix(0, 0), Version: "test"})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func facts(t *testing.T, major, minor int) cluster.Facts {
	t.Helper()
	return cluster.Facts{
		Registries: []cluster.Registry{{Address: address, CA: certificate(1), Auth: secretAuth}},
		Version:    cluster.Version{Major: major, Minor: minor},
		Release:    cluster.Release{Repository: "openshift/release-images", Tag: "4.20.3-x86_64", Digest: payload},
		Resources:  mirrored(t),
	}
}

// made are files by their names.
type made map[string]cluster.File

func files(t *testing.T, f cluster.Facts) made {
	t.Helper()
	r, err := cluster.Render(f)
	if err != nil {
		t.Fatal(err)
	}
	all := made{}
	for _, file := range r.Files {
		if _, twice := all[file.Name]; twice {
			t.Errorf("%s is there twice", file.Name)
		}
		all[file.Name] = file
	}
	return all
}

// object is a resource, and what tests look at of install-config.yaml and agent-config.yaml.
type object struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name, Namespace string }
	Data       map[string]string
	BinaryData map[string]any `yaml:"binaryData"`
	Spec       struct {
		ByDigest []source       `yaml:"imageDigestMirrors"`
		ByTag    []source       `yaml:"imageTagMirrors"`
		Policy   []source       `yaml:"repositoryDigestMirrors"`
		Rest     map[string]any `yaml:",inline"`
	}
}

type source struct {
	Source       string
	Mirrors      []string
	SourcePolicy string `yaml:"sourcePolicy"`
	MirrorPolicy string `yaml:"mirrorSourcePolicy"`
}

type installConfig struct {
	PullSecret string   `yaml:"pullSecret"`
	Bundle     string   `yaml:"additionalTrustBundle"`
	Policy     string   `yaml:"additionalTrustBundlePolicy"`
	Digests    []source `yaml:"imageDigestSources"`
	Contents   []source `yaml:"imageContentSources"`
}

// documents reads the documents of a file.
func (m made) documents(t *testing.T, name string) (all []object) {
	t.Helper()
	file, ok := m[name]
	if !ok {
		t.Fatalf("there is no %s", name)
	}
	for d := yaml.NewDecoder(bytes.NewReader(file.Data)); ; {
		var o object
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, file.Data)
		}
		all = append(all, o)
	}
}

func (m made) installConfig(t *testing.T) (c installConfig) {
	t.Helper()
	if err := yaml.Unmarshal(m["install-config.yaml"].Data, &c); err != nil {
		t.Fatalf("install-config.yaml: %v\n%s", err, m["install-config.yaml"].Data)
	}
	return c
}

// names lists the files below a directory.
func (m made) names(below string) (all []string) {
	for name := range m {
		if rest, ok := strings.CutPrefix(name, below); ok {
			all = append(all, rest)
		}
	}
	slices.Sort(all)
	return all
}

// of returns the mirrors of a source, joined.
func of(all []source, name string) string {
	for _, s := range all {
		if s.Source == name {
			return strings.Join(s.Mirrors, " ")
		}
	}
	return ""
}

func equal[T comparable](t *testing.T, what string, got, want T) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %v\nwant %v", what, got, want)
	}
}
