package mirror_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror"
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

// What is to be applied of version 1 is without the files that no cluster takes.
//
// Spec: oc-mirror 9.6.
func TestRun_chartsOfVersion1(t *testing.T) {
	s := newSetup(t, charts, func(o *mirror.Options) { o.Config.V1 = true })
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	if all := report.ResourcesV1; len(all) != 1 || filepath.Base(all[0]) != "imageContentSourcePolicy.yaml" {
		t.Errorf("to apply are %q", all)
	}
	for _, f := range append(report.Resources, report.ResourcesV1...) {
		if strings.Contains(f, "mapping.txt") || strings.Contains(f, ".tgz") {
			t.Errorf("to apply is %s", f)
		}
	}
	written, err := filepath.Glob(filepath.Join(s.workspace, "results-*", "charts", "*.tgz"))
	if err != nil || len(written) == 0 {
		t.Errorf("the results have the charts %q, %v", written, err)
	}
}
