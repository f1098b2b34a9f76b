package plan_test

import (
	"encoding/json"
	"errors"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Scripts read plans and reports: their fields and the order of them stay.
func TestPlan_json(t *testing.T) {
	desc := ocispec.Descriptor{MediaType: "x/y", Digest: "sha256:1", Size: 2}
	image := &plan.Image{
		Type: plan.ReleaseContent, Origin: "o", Reason: "w", Repository: "r", Tag: "t", Release: "4.1", Digest: "sha256:1",
		Manifests: []plan.Manifest{{Descriptor: desc, Blobs: []ocispec.Descriptor{desc}, Body: []byte("b"), Foreign: 1}},
		Reference: imageset.Reference{Path: "p", Tag: "t"},
	}
	f := plan.Failed(image, errors.New("e"))
	f.Incomplete, f.Consequence = "release 4.1", true
	const d = `{"mediaType":"x/y","digest":"sha256:1","size":2}`
	const i = `{"type":"ocpReleaseContent","origin":"o","why":"w","repository":"r","tag":"t","release":"4.1","digest":"sha256:1","manifests":[{"descriptor":` + d + `,"blobs":[` + d + `]}]}`
	want := `{"images":[` + i + `],"failures":[{"image":` + i + `,"error":"e","incomplete":"release 4.1"}],"warnings":["x"],"bytes":3,"held":1,"missing":2,"blobs":1,"registry":"h"}`
	got, err := json.Marshal(plan.Plan{
		Images: []*plan.Image{image}, Failures: []plan.Failure{f}, Warnings: []string{"x"}, Bytes: 3, Held: 1, Missing: 2, Blobs: 1, Registry: "h",
	})
	if err != nil || string(got) != want {
		t.Errorf("got\n%s, %v, want\n%s", got, err, want)
	}
}

// Spec: oc-mirror 3.9.
func TestClasses(t *testing.T) {
	for _, c := range plan.Classes() {
		if c.Type.Class() != c || c.Label == "" || c.Exit == 0 {
			t.Errorf("%+v", c)
		}
	}
	if c := plan.Type("other").Class(); c.Exit != 1 || c.Whole {
		t.Errorf("a type without a class is %+v", c)
	}
}
