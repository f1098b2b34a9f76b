package signature

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"sigs.k8s.io/yaml"
)

// Names of a sigstore attachment, see cosign's specs/SIGNATURE_SPEC.md.
const (
	mediaTypeSimpleSigning = "application/vnd.dev.cosign.simplesigning.v1+json"
	annotationSignature    = "dev.cosignproject.cosign/signature"
)

// key is a public key that images are signed with.
type key struct{ public crypto.PublicKey }

// parseKey reads a public key in PEM.
func parseKey(text []byte) (*key, error) {
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, errors.New("read the public key: it is not PEM")
	}
	public, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("read the public key: %w", err)
	}
	switch public.(type) {
	case *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey:
		return &key{public}, nil
	}
	return nil, fmt.Errorf("read the public key: keys of type %T sign no images", public)
}

// verify reports whether a text has a signature, in base64, by the key.
func (k *key) verify(text []byte, signed string) bool {
	raw, err := base64.StdEncoding.DecodeString(signed)
	if err != nil {
		return false
	}
	hash := sha256.Sum256(text)
	switch public := k.public.(type) {
	case *rsa.PublicKey:
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, hash[:], raw) == nil
	case *ecdsa.PublicKey:
		return ecdsa.VerifyASN1(public, hash[:], raw)
	case ed25519.PublicKey:
		return ed25519.Verify(public, text, raw)
	}
	return false
}

// Signatures returns the layers of an attachment that are signatures.
func Signatures(attachment ocispec.Manifest) []ocispec.Descriptor {
	var all []ocispec.Descriptor
	for _, l := range attachment.Layers {
		if l.MediaType == mediaTypeSimpleSigning && l.Annotations[annotationSignature] != "" {
			all = append(all, l)
		}
	}
	return all
}

// Policy is a rule about the images of some repositories: they are signed by a key. A cluster has
// it as a ClusterImagePolicy.
type Policy struct {
	scopes []string // hosts, namespaces or repositories
	key    *key
}

// clusterImagePolicy is what is read of one.
type clusterImagePolicy struct {
	Kind     string
	Metadata struct{ Annotations map[string]string }
	Spec     struct {
		Scopes []string
		Policy struct {
			RootOfTrust struct {
				PolicyType string
				PublicKey  struct{ KeyData []byte }
			}
			SignedIdentity struct{ MatchPolicy string }
		}
	}
}

// ParsePolicies reads the ClusterImagePolicies of a release's manifest. Those that a cluster has
// with preview features only are left out.
func ParsePolicies(manifests []byte) ([]*Policy, error) {
	var all []*Policy
	for document := range strings.SplitSeq("\n"+string(manifests), "\n---") {
		var p clusterImagePolicy
		if err := yaml.Unmarshal([]byte(document), &p); err != nil {
			return nil, fmt.Errorf("read the image policy: %w", err)
		}
		sets := p.Metadata.Annotations["release.openshift.io/feature-set"]
		if p.Kind != "ClusterImagePolicy" || sets != "" && !strings.Contains(sets, "Default") {
			continue
		}
		policy, err := p.policy()
		if err != nil {
			return nil, fmt.Errorf("read the image policy: %w", err)
		}
		all = append(all, policy)
	}
	return all, nil
}

func (p *clusterImagePolicy) policy() (*Policy, error) {
	root, identity := p.Spec.Policy.RootOfTrust, p.Spec.Policy.SignedIdentity.MatchPolicy
	switch {
	case root.PolicyType != "PublicKey":
		return nil, fmt.Errorf("its root of trust is %q, and only PublicKey is built", root.PolicyType)
	case identity != "" && identity != "MatchRepoDigestOrExact" && identity != "MatchRepository":
		return nil, fmt.Errorf("signedIdentity %q is not built", identity)
	case len(p.Spec.Scopes) == 0:
		return nil, errors.New("it has no scopes")
	}
	key, err := parseKey(root.PublicKey.KeyData)
	if err != nil {
		return nil, err
	}
	return &Policy{scopes: p.Spec.Scopes, key: key}, nil
}

// Covers reports whether images of a repository, with its registry, must be signed.
func (p *Policy) Covers(repository string) bool {
	for _, scope := range p.scopes {
		rest, ok := strings.CutPrefix(repository, scope)
		host, _, _ := strings.Cut(repository, "/")
		if ok && (rest == "" || rest[0] == '/') || strings.HasPrefix(scope, "*.") &&
			strings.HasSuffix(host, scope[1:]) {
			return true
		}
	}
	return false
}

// Verify checks that a layer of an attachment, whose content is text, signs an image of a
// repository.
func (p *Policy) Verify(layer ocispec.Descriptor, text []byte, repository string, image digest.Digest) error {
	if !p.key.verify(text, layer.Annotations[annotationSignature]) {
		return errors.New("it is not a signature by the policy's key")
	}
	signed, err := parseDocument(text, "cosign container image signature", image)
	if err != nil {
		return err
	}
	if of := repositoryOf(signed); of != repository {
		return fmt.Errorf("it is the signature of an image of %s", of)
	}
	return nil
}

// repositoryOf cuts the tag or the digest off a reference.
func repositoryOf(reference string) string {
	reference, _, _ = strings.Cut(reference, "@")
	if i := strings.LastIndexByte(reference, ':'); i > strings.LastIndexByte(reference, '/') {
		return reference[:i]
	}
	return reference
}
