package mirror_test

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

const charts = `  helm:
    repositories:
    - name: sample
      url: http://HOST/charts
      charts:
      - name: sample-app
        version: 1.1.0
    - name: oci
      url: oci://HOST/samples/charts
      charts:
      - name: sample-app
`

// Spec: oc-mirror 6.5.
func TestRun_charts(t *testing.T) {
	s := newSetup(t, charts)
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	s.holds(t, "samples/docker-multi", "v1", s.digest(t, "samples/docker-multi", "v1"))
	if r := report.Results(); len(r) != 1 || r[0].Label != "helm" || r[0].Mirrored != 2 {
		t.Errorf("results %+v", r)
	}
	if got := s.read(t, "cluster-resources", "itms-oc-mirror.yaml"); !strings.Contains(got, "itms-generic-0") {
		t.Errorf("mirror sets: %s", got)
	}
	s.read(t, "helm", "charts", "sample-app-1.1.0.tgz")
}

func TestRun_chartThatFails(t *testing.T) {
	s := newSetup(t, charts+"      - name: nothing\n"+additional)
	report, err := s.mirror(t)
	if exitCode(err) != 16 || len(report.Failures) != 1 || report.Failures[0].Image.Type != plan.Helm {
		t.Errorf("%v, failures %+v", err, report.Failures)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/docker", "v1"))
	s.holds(t, "samples/oci-multi", "v1", s.digest(t, "samples/oci-multi", "v1"))
}

// The exit code is that of charts although nothing is left to copy.
func TestRun_onlyChartThatFails(t *testing.T) {
	s := newSetup(t, strings.ReplaceAll(charts, "sample-app", "nothing"))
	report, err := s.mirror(t)
	if exitCode(err) != 16 || len(report.Failures) != 2 {
		t.Errorf("%v, failures %+v", err, report.Failures)
	}
}

// A chart's author chose the names of its images: two that collide are no reason to mirror nothing.
func TestRun_imageOfChartCollides(t *testing.T) {
	s := newSetup(t, charts+"  additionalImages:\n  - name: HOST/samples/oci:v1\n    targetRepo: samples/docker\n")
	report, err := s.mirror(t)
	if exitCode(err) != 16 || len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Error, "would both become") {
		t.Errorf("%v, failures %+v", err, report.Failures)
	}
	s.holds(t, "samples/docker", "v1", s.digest(t, "samples/oci", "v1"))
}
