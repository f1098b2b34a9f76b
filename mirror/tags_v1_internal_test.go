package mirror

import (
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Spec: oc-mirror 9.7.
func TestTagAsV1(t *testing.T) {
	a, b := "@sha256:"+strings.Repeat("a", 64), "@sha256:"+strings.Repeat("b", 64)
	for named, want := range map[string]string{
		"r.io/x" + a:                    "latest",
		"r.io/x" + a + " r.io/x" + b:    "aaaaaaaa bbbbbbbb",
		"r.io/x" + a + " r.io/y" + b:    "latest latest",
		"r.io/x" + a + " r.io/x:latest": "aaaaaaaa latest",
		"r.io/x" + a + " r.io/x:v1":     "latest v1",
		"r.io/x" + a + " r.io/x" + a:    "latest latest",
		"r.io/x:v1" + a:                 "v1",
	} {
		var images []*plan.Image
		for _, word := range strings.Fields(named) {
			ref, err := imageset.ParseReference(word)
			if err != nil {
				t.Fatal(err)
			}
			images = append(images, &plan.Image{Type: plan.Generic, Reference: ref, Repository: ref.Path, Tag: ref.DestinationTag()})
		}
		tagAsV1(images)
		var got []string
		for _, i := range images {
			got = append(got, i.Tag)
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: the tags are %v, want %s", named, got, want)
		}
	}
}
