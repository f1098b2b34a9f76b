package mirror_test

import (
	"slices"
	"strings"
	"testing"
)

// Spec: oc-mirror 3.2, 6.3.
func TestPlan_blockedImages(t *testing.T) {
	s := newSetup(t, twoReleases+additional+"  blockedImages:\n  - name: -hyperkube$\n  - name: samples/docker\n")
	p := s.plan(t)
	for _, d := range destinations(p) {
		if strings.Contains(d, "hyperkube") || strings.Contains(d, "samples/docker:") {
			t.Errorf("%s is blocked and planned", d)
		}
	}
	var blocked []string
	for _, i := range p.Blocked {
		blocked = append(blocked, i.Origin)
	}
	if len(blocked) != 3 || !strings.HasSuffix(blocked[2], "/samples/docker:v1") {
		t.Errorf("blocked are %q", blocked)
	}
	for n, release := range []string{"4.18.1-x86_64", "4.18.2-x86_64"} {
		if want := "release " + release + " is mirrored without images that blockedImages blocks (" + blocked[n] + "):"; !hasPrefix(p.Warnings, want) {
			t.Errorf("no warning begins with %q: %q", want, p.Warnings)
		}
	}
	t.Run("all of them", func(t *testing.T) {
		s := newSetup(t, additional+"  blockedImages:\n  - name: .\n")
		if _, err := s.engine.Plan(t.Context()); exitCode(err) != 1 || err.Error() != "no images to copy" {
			t.Errorf("error %v", err)
		}
	})
}

// A bundle stays in the catalog without an image that is blocked, as with oc-mirror, and a warning
// names it.
//
// Spec: oc-mirror 6.3.
func TestMirror_blockedImagesOfOperators(t *testing.T) {
	s := newSetup(t, database+"  blockedImages:\n  - name: /operators/database\n")
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	const want = "sample-database stable: v1.1.0 v1.2.0\nbundle sample-database.v1.1.0\nbundle sample-database.v1.2.0"
	if got := s.catalog(t, "v4.18"); got != want || len(s.tags(t, "operators/database")) > 0 {
		t.Errorf("the catalog has\n%s", got)
	}
	if len(report.Blocked) != 1 || !strings.Contains(report.Blocked[0].Origin, "/operators/database@") {
		t.Fatalf("blocked are %+v", report.Blocked)
	}
	warning := "catalog " + s.host + "/redhat/redhat-operator-index:v4.18: bundle sample-database.v1.1.0, sample-database.v1.2.0 of operator sample-database is mirrored without images that blockedImages blocks (" + report.Blocked[0].Origin + "):"
	if !hasPrefix(report.Warnings, warning) {
		t.Errorf("no warning begins with %q: %q", warning, report.Warnings)
	}

	s = newSetup(t, database+"  blockedImages:\n  - name: redhat-operator-index\n")
	report, err = s.mirror(t)
	if err != nil || len(report.Blocked) != 1 || !hasPrefix(report.Warnings, "catalog "+s.host+"/redhat/redhat-operator-index:v4.18 is blocked:") {
		t.Errorf("%v, blocked are %+v, warnings %q", err, report.Blocked, report.Warnings)
	}
}

func hasPrefix(all []string, want string) bool {
	return slices.ContainsFunc(all, func(one string) bool { return strings.HasPrefix(one, want) })
}
