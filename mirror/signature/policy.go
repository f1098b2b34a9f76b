package signature

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"
)

// Policy is a rule about the images of some repositories: they are signed. A cluster has it as a
// ClusterImagePolicy.
type Policy struct {
	name     string
	scopes   []string // hosts, namespaces or repositories
	root     *root
	identity identity
}

// clusterImagePolicy is what is read of one.
type clusterImagePolicy struct {
	Kind     string
	Metadata struct {
		Name        string
		Annotations map[string]string
	}
	Spec struct {
		Scopes []string
		Policy struct {
			RootOfTrust    rootOfTrust
			SignedIdentity struct {
				MatchPolicy     string
				ExactRepository struct{ Repository string }
				RemapIdentity   struct{ Prefix, SignedPrefix string }
			}
		}
	}
}

// rootOfTrust is what the signatures of a policy are rooted in.
type rootOfTrust struct {
	PolicyType        string
	PublicKey         *struct{ KeyData, RekorKeyData []byte }
	FulcioCAWithRekor *struct {
		FulcioCAData, RekorKeyData []byte
		FulcioSubject              struct{ OIDCIssuer, SignedEmail string }
	}
	PKI *struct {
		CARootsData, CAIntermediatesData []byte
		PKICertificateSubject            struct{ Email, Hostname string }
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
	if len(p.Spec.Scopes) == 0 {
		return nil, errors.New("it has no scopes")
	}
	r, err := p.Spec.Policy.RootOfTrust.root()
	if err != nil {
		return nil, err
	}
	of := p.Spec.Policy.SignedIdentity
	i := identity{Type: "matchRepoDigestOrExact"}
	if of.MatchPolicy != "" {
		i = identity{Type: strings.ToLower(of.MatchPolicy[:1]) + of.MatchPolicy[1:], DockerRepository: of.ExactRepository.Repository,
			Prefix: of.RemapIdentity.Prefix, SignedPrefix: of.RemapIdentity.SignedPrefix}
	}
	return &Policy{name: p.Metadata.Name, scopes: p.Spec.Scopes, root: r, identity: i}, i.check()
}

func (t *rootOfTrust) root() (*root, error) {
	switch {
	case t.PolicyType == "PublicKey" && t.PublicKey != nil:
		return newRoot([][]byte{t.PublicKey.KeyData}, optional(t.PublicKey.RekorKeyData), nil)
	case t.PolicyType == "FulcioCAWithRekor" && t.FulcioCAWithRekor != nil:
		f := t.FulcioCAWithRekor
		ca, err := newFulcio(f.FulcioCAData, f.FulcioSubject.OIDCIssuer, f.FulcioSubject.SignedEmail)
		if err != nil {
			return nil, err
		}
		return newRoot(nil, optional(f.RekorKeyData), ca)
	case t.PolicyType == "PKI" && t.PKI != nil:
		ca, err := newPKI(t.PKI.CARootsData, t.PKI.CAIntermediatesData, t.PKI.PKICertificateSubject.Email, t.PKI.PKICertificateSubject.Hostname)
		if err != nil {
			return nil, err
		}
		return newRoot(nil, nil, ca)
	}
	return nil, fmt.Errorf("its root of trust is %q without what that needs, or is not built", t.PolicyType)
}

// optional returns a list of one text, none for an empty one.
func optional(text []byte) [][]byte {
	if len(text) == 0 {
		return nil
	}
	return [][]byte{text}
}

// String names the policy, and what signatures are rooted in by it.
func (p *Policy) String() string { return fmt.Sprintf("policy %s, %s", p.name, p.root) }

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

// Verify checks that a signature is one of an image of a repository.
func (p *Policy) Verify(s SignedText, repository string, image digest.Digest) error {
	if err := p.root.verify(s); err != nil {
		return err
	}
	signed, err := parseDocument(s.Text, sigstoreDocument, image)
	if err != nil {
		return err
	}
	return p.identity.matches(Image{Repository: repository, Manifest: image}, signed)
}

// VerifyAny returns nil if one of the signatures of an image verifies, ErrNone if there is none.
func (p *Policy) VerifyAny(all []SignedText, repository string, image digest.Digest) error {
	err := ErrNone
	for _, s := range all {
		if err = p.Verify(s, repository, image); err == nil {
			return nil
		}
	}
	return err
}
