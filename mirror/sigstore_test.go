package mirror_test

import (
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// sigstoreIs makes the upstream answer for the sigstore signature of a manifest with that of
// another, or with 404.
func (s *source) sigstoreIs(repo string, d, other digest.Digest) {
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		if !strings.HasSuffix(r.URL.Path, "/"+sigTag(d)) {
			return false
		}
		m, ok := s.Manifest(repo, sigTag(other))
		if !ok {
			w.WriteHeader(http.StatusNotFound)
			return true
		}
		w.Header().Set("Content-Type", m.MediaType)
		_, _ = w.Write(m.Body)
		return true
	})
}

func sigTag(d digest.Digest) string { return "sha256-" + d.Encoded() + ".sig" }

// reasonsOf returns the reasons for which an image of a report is not signed.
func reasonsOf(r *mirror.Report, d digest.Digest) string {
	for _, i := range plan.Unsigned(r.Mirrored) {
		if i.Digest == d {
			return strings.Join(i.Unsigned, "; ")
		}
	}
	return ""
}

const multiRelease = "  platform:\n    architectures: [multi]\n    channels: [{name: stable-4.18}]\n"

// Spec: signatures 1, 2, 4.
func TestRun_sigstoreSignatures(t *testing.T) {
	strict := func(o *mirror.Options) { o.Signatures.Strict = true }
	for _, config := range []string{twoReleases, multiRelease} {
		s := newSetup(t, config, strict)
		report, err := s.mirror(t)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range report.Mirrored {
			for _, m := range i.Manifests {
				tag := sigTag(m.Descriptor.Digest)
				_, repo, _ := strings.Cut(i.Reference.Name(), "/")
				s.holds(t, i.Repository, tag, s.digest(t, repo, tag))
			}
		}
	}
}

func TestRun_imageWithoutSigstoreSignature(t *testing.T) {
	s := newSetup(t, twoReleases)
	repo, d := s.component(t, "4.18.2", "hyperkube")
	_, other := s.component(t, "4.18.2", "machine-config-operator")
	for reason, answer := range map[string]digest.Digest{
		"has no sigstore signature":               digest.FromString("none"),
		"it is the signature of " + string(other): other,
	} {
		s := newSetupFrom(t, s.source, twoReleases+additional)
		s.sigstoreIs(repo, d, answer)
		report, err := s.mirror(t)
		if err != nil || len(plan.Unsigned(report.Mirrored)) != 1 || !strings.Contains(reasonsOf(report, d), reason) {
			t.Errorf("%s: %v, unsigned are %+v", reason, err, plan.Unsigned(report.Mirrored))
		}
		s.holds(t, "openshift/release", "4.18.2-x86_64-hyperkube", d)
		s = newSetupFrom(t, s.source, twoReleases+additional, func(o *mirror.Options) { o.Signatures.Strict = true })
		report, err = s.mirror(t)
		if exitCode(err) != 2 || len(report.Mirrored) != 12 {
			t.Errorf("strict: %v, %d images are mirrored", err, len(report.Mirrored))
		}
		s.lacks(t, "openshift/release", "4.18.2-x86_64-hyperkube")
	}
}

// Nodes ask for the signature of the list's member that they run.
func TestRun_listWithoutSigstoreSignature(t *testing.T) {
	s := newSetup(t, multiRelease)
	r, ok := s.Release("4.18.3", "multi")
	if !ok {
		t.Fatal("the sample has no such release")
	}
	s.sigstoreIs(sample.ReleaseRepository, r.Digest, digest.FromString("none"))
	if report, err := s.mirror(t); err != nil || len(plan.Unsigned(report.Mirrored)) > 0 {
		t.Errorf("a list without: %v, unsigned are %+v", err, plan.Unsigned(report.Mirrored))
	}
	member := s.member(t, sample.ReleaseRepository, r.Digest.String())
	s.sigstoreIs(sample.ReleaseRepository, member, digest.FromString("none"))
	if report, err := s.mirror(t); err != nil || !strings.Contains(reasonsOf(report, r.Digest), "manifest "+member.String()+" has no") {
		t.Errorf("a member without: %v, %q", err, reasonsOf(report, r.Digest))
	}
}

// member returns the first member of a list of images.
func (s *source) member(t *testing.T, repo, list string) digest.Digest {
	t.Helper()
	m, _ := s.Manifest(repo, list)
	i := strings.Index(string(m.Body), `"sha256:`)
	return digest.Digest(m.Body[i+1 : i+1+71])
}

// Spec: oc-mirror 3.8.
func TestRun_withoutSignatures(t *testing.T) {
	s := newSetup(t, twoReleases+signed, func(o *mirror.Options) { o.Signatures.Remove = true })
	report, err := s.mirror(t)
	if err != nil || len(plan.Unsigned(report.Mirrored)) > 0 {
		t.Errorf("%v, unsigned are %+v", err, plan.Unsigned(report.Mirrored))
	}
	if tags := s.tags(t, "samples/signed"); !slices.Equal(tags, []string{"v1"}) {
		t.Errorf("tags %v", tags)
	}
	if asked := s.asked("sig"); slices.ContainsFunc(asked, func(r string) bool { return strings.HasSuffix(r, ".sig") }) {
		t.Errorf("asked for %v", asked)
	}
	if len(s.configMap(t)) != 2 {
		t.Error("the signatures of the releases are left out, too")
	}
}
