package mirror_test

import (
	"encoding/base64"
	"slices"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// trusting makes a run enforce a policy in which KEY is the upstream's.
func (s *source) trusting(t *testing.T, requirement string) options {
	t.Helper()
	key := base64.StdEncoding.EncodeToString(s.ImageKey())
	p, err := signature.ParseTrust([]byte(`{"default":[{"type":"insecureAcceptAnything"}],"transports":{"docker":{"` + s.host + `/samples":[` +
		requirement + `,"keyData":"` + key + `","signedIdentity":{"type":"matchRepository"}}]}}}`))
	if err != nil {
		t.Fatal(err)
	}
	return func(o *mirror.Options) { o.Signatures.Trust, o.Signatures.Lookaside = p, &signature.Lookaside{} }
}

// Spec: oc-mirror 3.8.
func TestRun_policyOfTheHost(t *testing.T) {
	src := newSource(t)
	policy := src.trusting(t, `{"type":"sigstoreSigned"`)
	s := newSetupFrom(t, src, withGraph+signed, policy)
	report, err := s.mirror(t)
	if exitCode(err) != 8 || len(report.Failures) != 1 || report.Failures[0].Image.Origin != s.host+"/samples/docker:v1" || hint.Of(report.Failures[0].Cause) == "" {
		t.Fatalf("%v, failures %+v", err, report.Failures)
	}
	s.lacks(t, "samples/docker", "v1")
	s.holds(t, "samples/signed", "v1", s.digest(t, "samples/signed", "v1"))
	s.holds(t, "openshift/release-images", "4.18.3-x86_64", s.release(t, "4.18.3").Digest)

	s = newSetupFrom(t, src, signed, policy, func(o *mirror.Options) { o.Signatures.Remove = true })
	if _, err := s.mirror(t); exitCode(err) != 8 {
		t.Errorf("without the signatures: %v", err)
	}
	if tags := s.tags(t, "samples/signed"); !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("tags %v", tags)
	}
}
