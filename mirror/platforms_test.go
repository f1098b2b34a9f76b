package mirror_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror"
)

// members returns the members of a list in the store that are there, and those that are not.
func (s *setup) members(t *testing.T, repo, tag string) (there, missing []string) {
	t.Helper()
	m, err := s.store.Manifests.ByTag(t.Context(), repo, tag)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := image.Parse(m.MediaType, m.Body)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range parsed.References {
		if _, err := s.store.Manifests.Get(t.Context(), repo, r.Digest); err == nil {
			there = append(there, r.Platform)
		} else {
			missing = append(missing, r.Platform)
		}
	}
	return there, missing
}

func (s *setup) wantMembers(t *testing.T, repo, tag string, there, missing []string) {
	t.Helper()
	if a, b := s.members(t, repo, tag); !slices.Equal(a, there) || !slices.Equal(b, missing) {
		t.Errorf("%s:%s has %v and lacks %v, want %v and %v", repo, tag, a, b, there, missing)
	}
}

const sparseRelease = `  platform:
    platforms: [{os: linux, architecture: arm64}]
    channels: [{name: stable-4.18}]
`

// A list is copied as it is, and of its members those that are wanted: the spec, 6.7.
//
// Spec: oc-mirror 4.4, 6.7.
func TestRun_platformsOfARelease(t *testing.T) {
	s := newSetup(t, sparseRelease)
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	r, _ := s.Release("4.18.3", "multi")
	if m, err := s.store.Manifests.ByTag(t.Context(), "openshift/release-images", "4.18.3-multi"); err != nil || m.Digest != r.Digest {
		t.Errorf("the payload is %s, %v", m.Digest, err)
	}
	s.wantMembers(t, "openshift/release-images", "4.18.3-multi", []string{"linux/arm64"}, []string{"linux/amd64"})
	for name := range r.Components {
		s.wantMembers(t, "openshift/release", "4.18.3-multi-"+name, []string{"linux/arm64"}, []string{"linux/amd64"})
	}
	if report, err := s.mirror(t); err != nil || len(report.Mirrored) == 0 {
		t.Errorf("again: %v", err)
	}
}

// Spec: oc-mirror 6.7.
func TestRun_platformsOfImages(t *testing.T) {
	s := newSetup(t, `  additionalImages:
  - {name: HOST/samples/docker-multi:v1, platforms: [{os: linux, architecture: arm64}]}
  - {name: HOST/samples/oci-multi:v1, platforms: [{os: linux, architecture: arm64}]}
  - {name: HOST/samples/oci-multi:v1, platforms: [{os: linux, architecture: amd64}]}
  - {name: HOST/samples/docker:v1, platforms: [{os: linux, architecture: s390x}]}
`)
	report, err := s.mirror(t)
	if err != nil || len(report.Mirrored) != 3 {
		t.Fatalf("%+v, %v", report, err)
	}
	s.wantMembers(t, "samples/docker-multi", "v1", []string{"linux/arm64"}, []string{"linux/amd64", "linux/arm"})
	s.wantMembers(t, "samples/oci-multi", "v1", []string{"linux/amd64", "linux/arm64"}, []string{"linux/arm"})
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))

	o := s.deletion(t, "  additionalImages:\n  - name: HOST/samples/docker-multi:v1\n")
	if d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{}); err != nil || d.Absent != 0 || d.Bytes == 0 {
		t.Errorf("to delete a list without all of its members: %+v, %v", d, err)
	}
}

// One origin that is wanted whole is whole, in each order of the list.
func TestRun_platformsOfOneOriginThatIsWantedWhole(t *testing.T) {
	for _, list := range [][2]string{{"", ", platforms: [{os: linux, architecture: amd64}]"}, {", platforms: [{os: linux, architecture: amd64}]", ""}} {
		s := newSetup(t, "  additionalImages:\n  - {name: HOST/samples/oci-multi:v1"+list[0]+
			"}\n  - {name: HOST/samples/oci-multi:v1"+list[1]+"}\n")
		if _, err := s.mirror(t); err != nil {
			t.Fatal(err)
		}
		s.wantMembers(t, "samples/oci-multi", "v1", []string{"linux/amd64", "linux/arm64", "linux/arm"}, nil)
	}
}

// Spec: oc-mirror 6.7.
func TestRun_platformThatAListDoesNotHave(t *testing.T) {
	s := newSetup(t, `  additionalImages:
  - {name: HOST/samples/oci-multi:v1, platforms: [{os: linux, architecture: amd64}, {os: linux, architecture: s390x}]}
  - {name: HOST/samples/docker:v1}
`)
	report, err := s.mirror(t)
	if exitCode(err) != 8 || len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Error, "no instances found for platform linux/s390x") {
		t.Errorf("%+v, %v", report, err)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	if repos := s.repositories(t); slices.Contains(repos, "samples/oci-multi") {
		t.Errorf("there is %v", repos)
	}
}
