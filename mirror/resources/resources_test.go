package resources_test

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/mirror/resources"
)

var update = flag.Bool("update", false, "write the golden files")

func options() resources.Options {
	return resources.Options{Created: time.Date(2026, 11, 20, 23, 58, 33, 0, time.FixedZone("CET", 3600)), Version: "v1.2.3"}
}

// images are one of each kind, in no order.
func images() []resources.Image {
	const d = "mirror.example.com:8443/ns"
	return []resources.Image{
		{Category: resources.Generic, Source: "quay.io/team/app", Destination: d + "/team/app", ByTag: true},
		{Category: resources.Generic, Source: "quay.io/team/other", Destination: d + "/team/other", ByTag: true, ByDigest: true},
		{Category: resources.Generic, Source: "quay.io/deep/er/app", Destination: d + "/deep/er/app", ByDigest: true},
		{Category: resources.Generic, Source: "localhost:5001/rootlevel", Destination: d + "/rootlevel", ByTag: true},
		{Category: resources.Generic, Source: "quay.io/team/moved", Destination: d + "/elsewhere/name", ByTag: true},
		{Category: resources.Release, Source: "quay.io/openshift-release-dev/ocp-v4.0-art-dev", Destination: d + "/openshift/release", ByDigest: true},
		{Category: resources.Release, Source: "quay.io/openshift-release-dev/ocp-release", Destination: d + "/openshift/release-images", ByDigest: true, ByTag: true},
		{Category: resources.Operator, Source: "registry.example.com/op/bundle", Destination: d + "/op/bundle", ByDigest: true},
		{Category: resources.Generic, Source: "quay.io/twice/x", Destination: d + "/b/x", ByDigest: true},
		{Category: resources.Generic, Source: "quay.io/twice/x", Destination: d + "/a/x", ByDigest: true},
		{Category: resources.Generic, Source: "quay.io/twice/x", Destination: d + "/a/x", ByDigest: true},
	}
}

func TestWrite_golden(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "working-dir", "cluster-resources")
	files, err := resources.Write(dir, images(), options())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{filepath.Join(dir, "idms-oc-mirror.yaml"), filepath.Join(dir, "itms-oc-mirror.yaml")}
	if !slices.Equal(files, want) {
		t.Errorf("wrote %v, want %v", files, want)
	}
	for _, file := range files {
		got := read(t, file)
		golden := filepath.Join("testdata", filepath.Base(file))
		if *update {
			if err := os.MkdirAll("testdata", 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		if want := read(t, golden); got != want {
			t.Errorf("%s differs (go test -update writes it):\n%s", golden, got)
		}
		for _, doc := range strings.Split(strings.TrimPrefix(got, "---\n"), "---\n") {
			var any map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &any); err != nil {
				t.Errorf("%s: %v", golden, err)
			}
		}
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

func TestWrite_orderDoesNotMatter(t *testing.T) {
	one, other := t.TempDir(), t.TempDir()
	reversed := images()
	slices.Reverse(reversed)
	for dir, list := range map[string][]resources.Image{one: images(), other: reversed} {
		if _, err := resources.Write(filepath.Join(dir, "r"), list, options()); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"idms-oc-mirror.yaml", "itms-oc-mirror.yaml"} {
		if a, b := read(t, filepath.Join(one, "r", name)), read(t, filepath.Join(other, "r", name)); a != b {
			t.Errorf("%s depends on the order of images:\n%s\n%s", name, a, b)
		}
	}
}

func TestWrite_replacesWhatWasThere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "cluster-resources")
	if _, err := resources.Write(dir, images(), options()); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "cs-old.yaml"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	only := []resources.Image{{Category: resources.Generic, Source: "q.io/a/b", Destination: "m.io/a/b", ByTag: true}}
	if _, err := resources.Write(dir, only, options()); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "itms-oc-mirror.yaml" {
		t.Errorf("the directory has %v, %v; want itms-oc-mirror.yaml", entries, err)
	}
	beside, err := os.ReadDir(filepath.Dir(dir))
	if err != nil || len(beside) != 1 {
		t.Errorf("left beside it: %v, %v", beside, err)
	}
}

func TestWrite_saysThatItCannot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if files, err := resources.Write(filepath.Join(file, "cluster-resources"), images(), options()); err == nil {
		t.Errorf("wrote %v below a file", files)
	}
}
