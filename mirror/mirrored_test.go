package mirror_test

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/mirror"
)

// resources returns the cluster resources of the workspace, by name.
func (s *setup) resources(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, f := range s.files(t) {
		if dir, name := filepath.Split(f); dir == "working-dir/cluster-resources/" {
			all[name] = s.read(t, "cluster-resources", name)
		}
	}
	return all
}

// at sets the time of a run.
func at(day int) options {
	return func(o *mirror.Options) {
		o.Now = func() time.Time { return time.Date(2026, 12, day, 0, 0, 0, 0, time.UTC) }
	}
}

const (
	firstImage  = "  additionalImages:\n  - {name: HOST/samples/oci:v1, targetRepo: one/name}\n"
	secondImage = "  additionalImages:\n  - {name: HOST/samples/docker:v1, targetRepo: other/name}\n"
)

func TestRun_resourcesOfAllRuns(t *testing.T) {
	s := newSetup(t, withGraph)
	run := func(config string, change ...options) map[string]string {
		t.Helper()
		s.engine = s.newEngine(t, config, change...)
		if _, err := s.mirror(t); err != nil {
			t.Fatal(err)
		}
		return s.resources(t)
	}
	first := run(withGraph, at(1))
	if again := run(withGraph, at(2)); !maps.Equal(first, again) || len(first) != 5 {
		t.Errorf("nothing is new, and the resources are %v, and then %v", first, again)
	}
	second := run(firstImage, at(3))
	if second["itms-oc-mirror.yaml"] == first["itms-oc-mirror.yaml"] || !strings.Contains(second["itms-oc-mirror.yaml"], "2026-12-03") {
		t.Errorf("a new image changes nothing: %s", second["itms-oc-mirror.yaml"])
	}
	for _, name := range []string{"idms-oc-mirror.yaml", "signature-configmap.json", "signature-configmap.yaml", "updateService.yaml"} {
		if second[name] != first[name] {
			t.Errorf("%s is not that of the first run:\n%s", name, second[name])
		}
	}
	third := run(secondImage, at(4))["itms-oc-mirror.yaml"]
	for _, want := range []string{"one/name", "other/name", "openshift/release-images"} {
		if !strings.Contains(third, "mirror.example.com:8443/"+want) {
			t.Errorf("%s is not in\n%s", want, third)
		}
	}
	elsewhere := run(secondImage, at(5), func(o *mirror.Options) { o.Registry = "other.example.com" })
	if text := elsewhere["itms-oc-mirror.yaml"]; strings.Contains(text, "mirror.example.com") || !strings.Contains(text, "other.example.com/other/name") {
		t.Errorf("for another registry:\n%s", text)
	}
	only := run(firstImage, at(6), func(o *mirror.Options) { o.OnlyThisRun = true })
	if text := only["itms-oc-mirror.yaml"]; len(only) != 1 || strings.Contains(text, "other/name") || !strings.Contains(text, "one/name") {
		t.Errorf("only of the run: %v", only)
	}
	if back := run(firstImage, at(7)); len(back) != 5 {
		t.Errorf("after that: %v", back)
	}
}

// An image that fails today and was mirrored before keeps its entry.
func TestRun_resourcesOfAnImageThatFails(t *testing.T) {
	s := newSetup(t, additional+"  - {name: HOST/samples/oci:v1, targetRepo: one/name}\n")
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	before := s.resources(t)
	s.gone("samples/oci", "v1")
	s.engine = s.newEngine(t, additional+"  - {name: HOST/samples/oci:v1, targetRepo: one/name}\n", at(2))
	if _, err := s.mirror(t); exitCode(err) != 8 {
		t.Fatal(err)
	}
	if after := s.resources(t); !maps.Equal(before, after) {
		t.Errorf("before %v, after %v", before, after)
	}
}

// A workspace of an earlier version, or with a list that is damaged, has reports.
func TestRun_resourcesOfReports(t *testing.T) {
	for name, damage := range map[string]func(string) error{
		"without a list":     os.Remove,
		"with a damaged one": func(path string) error { return os.WriteFile(path, []byte("{"), 0o644) },
	} {
		s := newSetup(t, firstImage)
		if _, err := s.mirror(t); err != nil {
			t.Fatal(err)
		}
		if err := damage(filepath.Join(s.workspace, "working-dir", "mirrored.json")); err != nil {
			t.Fatal(err)
		}
		s.engine = s.newEngine(t, secondImage, at(2))
		if _, err := s.mirror(t); err != nil {
			t.Fatal(err)
		}
		if got := s.resources(t)["itms-oc-mirror.yaml"]; !strings.Contains(got, "one/name") || !strings.Contains(got, "other/name") {
			t.Errorf("%s:\n%s", name, got)
		}
	}
}

func TestDelete_resourcesForgetTheImage(t *testing.T) {
	s := newSetup(t, firstImage)
	s.mirrored(t, withGraph+firstImage, "a.yaml")
	o := s.deletion(t, "  additionalImages:\n  - {name: HOST/samples/oci:v1, targetRepo: one/name}\n  platform: {graph: true}\n")
	d, err := mirror.PlanDelete(t.Context(), o, pruner{Store: s.store}, mirror.DeleteList{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.Delete(t.Context(), o, pruner{Store: s.store}, d.File, false); err != nil {
		t.Fatal(err)
	}
	s.lacks(t, "openshift/graph-image", "latest")
	s.mirrored(t, secondImage, "b.yaml")
	got := s.resources(t)
	if text := got["itms-oc-mirror.yaml"]; strings.Contains(text, "one/name") || !strings.Contains(text, "openshift/release-images") {
		t.Errorf("after the delete:\n%s", text)
	}
	if got["updateService.yaml"] != "" {
		t.Error("there is an update service without its image")
	}
}

// An image that is known by two names at its sources has one destination, and a
// mirror for each name.
func TestRun_resourcesOfAnImageOfTwoNames(t *testing.T) {
	s := newSetup(t, additional)
	_, port, _ := strings.Cut(s.host, ":")
	s.engine = s.newEngine(t, "  additionalImages:\n  - name: HOST/samples/oci:v1\n  - name: localhost:"+port+"/samples/oci:v1\n")
	if _, err := s.mirror(t); err != nil {
		t.Fatal(err)
	}
	sets := s.resources(t)["itms-oc-mirror.yaml"]
	for _, source := range []string{s.host, "localhost:" + port} {
		if !strings.Contains(sets, "source: "+source+"/samples\n") {
			t.Errorf("there is no mirror of %s:\n%s", source, sets)
		}
	}
}
