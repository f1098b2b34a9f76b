package resources_test

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/mirror/resources"
)

var update = flag.Bool("update", false, "write the golden files")

func options() resources.Options {
	return resources.Options{Created: time.Date(2026, 11, 20, 23, 58, 33, 0, time.FixedZone("CET", 3600)), Version: "v1.2.3"}
}

func names(files []resources.File) []string {
	var all []string
	for _, f := range files {
		all = append(all, f.Name)
	}
	return all
}

// images are one of each kind, in no order.
func images() []resources.Image {
	const d = "mirror.example.com:8443/ns"
	return []resources.Image{
		{Category: "generic", Source: "quay.io/team/app", Destination: d + "/team/app", ByTag: true},
		{Category: "generic", Source: "quay.io/team/other", Destination: d + "/team/other", ByTag: true, ByDigest: true},
		{Category: "generic", Source: "quay.io/deep/er/app", Destination: d + "/deep/er/app", ByDigest: true},
		{Category: "generic", Source: "localhost:5001/rootlevel", Destination: d + "/rootlevel", ByTag: true},
		{Category: "generic", Source: "quay.io/team/moved", Destination: d + "/elsewhere/name", ByTag: true},
		{Category: "release", Source: "quay.io/openshift-release-dev/ocp-v4.0-art-dev", Destination: d + "/openshift/release", ByDigest: true},
		{Category: "release", Source: "quay.io/openshift-release-dev/ocp-release", Destination: d + "/openshift/release-images", ByDigest: true, ByTag: true},
		{Category: "operator", Source: "registry.example.com/op/bundle", Destination: d + "/op/bundle", ByDigest: true},
		{Category: "generic", Source: "quay.io/twice/x", Destination: d + "/b/x", ByDigest: true},
		{Category: "generic", Source: "quay.io/twice/x", Destination: d + "/a/x", ByDigest: true},
		{Category: "generic", Source: "quay.io/twice/x", Destination: d + "/a/x", ByDigest: true},
	}
}

// mirrored has signatures of two releases beside the images.
func mirrored(images []resources.Image) resources.Mirrored {
	a, b := digest.FromString("a"), digest.FromString("b")
	updates := &resources.UpdateService{GraphImage: "m.io/openshift/graph-image:latest", Releases: "m.io/openshift/release-images"}
	catalogs := []resources.Catalog{{Image: "m.io/ns1/redhat/my-operator-index:v4.18"}}
	return resources.Mirrored{Updates: updates, Catalogs: catalogs, Images: images, Signatures: []resources.Signature{{a, []byte("one")}, {b, []byte("two")}, {a, []byte("one")}}}
}

// Spec: oc-mirror 4.10, 5.8, 7.2, 7.5.
func TestRender_golden(t *testing.T) {
	files, err := resources.Render(mirrored(images()), options())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"idms-oc-mirror.yaml", "itms-oc-mirror.yaml", "signature-configmap.json", "signature-configmap.yaml",
		"cs-my-operator-index-v4-18.yaml", "cc-my-operator-index-v4-18.yaml", "updateService.yaml"}
	if names := names(files); !slices.Equal(names, want) {
		t.Errorf("rendered %v, want %v", names, want)
	}
	for _, file := range files {
		golden := filepath.Join("testdata", file.Name)
		if *update {
			if err := os.WriteFile(golden, file.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if string(file.Data) != string(want) {
			t.Errorf("%s differs (go test -update writes it):\n%s", golden, file.Data)
		}
		for _, doc := range strings.Split(strings.TrimPrefix(string(file.Data), "---\n"), "---\n") {
			var any map[string]any
			if err := yaml.UnmarshalStrict([]byte(doc), &any); err != nil {
				t.Errorf("%s: %v", golden, err)
			}
		}
	}
}

// Spec: oc-mirror 7.2.
func TestRender_orderDoesNotMatter(t *testing.T) {
	reversed := images()
	slices.Reverse(reversed)
	one, err := resources.Render(mirrored(images()), options())
	other, errOther := resources.Render(mirrored(reversed), options())
	if err != nil || errOther != nil || !reflect.DeepEqual(one, other) {
		t.Errorf("%s\n%s\n%v, %v", one, other, err, errOther)
	}
}

// A file that no image belongs into is not written.
func TestRender_onlyTags(t *testing.T) {
	image := resources.Image{Category: "generic", Source: "q.io/a/b", Destination: "m.io/a/b", ByTag: true}
	files, err := resources.Render(resources.Mirrored{Images: []resources.Image{image}}, options())
	if err != nil || len(files) != 1 || files[0].Name != "itms-oc-mirror.yaml" {
		t.Errorf("rendered %v, %v", files, err)
	}
}
