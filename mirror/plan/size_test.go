package plan_test

import (
	"reflect"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// A blob counts once in each part of a plan, and once in the whole.
func TestPlan_Measure(t *testing.T) {
	blob := func(name string, size int64) ocispec.Descriptor {
		return ocispec.Descriptor{Digest: digest.FromString(name), Size: size}
	}
	image := func(of plan.Type, bundles []plan.Bundle, blobs ...ocispec.Descriptor) *plan.Image {
		return &plan.Image{Type: of, Origin: "index", Bundles: bundles, Manifests: []plan.Manifest{{Blobs: blobs}}}
	}
	base, proxy := blob("base", 100), blob("proxy", 10)
	a := []plan.Bundle{{Catalog: "index", Package: "a", Name: "a.1"}, {Catalog: "index", Package: "a", Name: "a.2"}}
	b := []plan.Bundle{{Catalog: "index", Package: "b", Name: "b.1"}}
	p := plan.Plan{
		Images: []*plan.Image{
			image(plan.OperatorBundle, a, base, blob("a", 1), blob("a", 1)),
			image(plan.OperatorRelated, append(a, b...), base, proxy),
			image(plan.OperatorBundle, b, base, blob("b", 2)),
			image(plan.OperatorCatalog, nil, base, blob("files", 1000)),
			image(plan.Generic, nil, base, blob("other", 10000)),
		},
		There: map[digest.Digest]bool{base.Digest: true, proxy.Digest: true, blob("elsewhere", 1).Digest: true},
	}
	p.Measure()
	if p.Blobs != 6 || p.Bytes != 11113 || p.Held != 110 || p.Missing != 11003 {
		t.Errorf("%d blobs, %d bytes: %d held, %d missing", p.Blobs, p.Bytes, p.Held, p.Missing)
	}
	want := []plan.CatalogSize{{
		Catalog: "index", Size: plan.Size{Images: 4, Bytes: 1113, Held: 110, Missing: 1003},
		Packages: []plan.PackageSize{
			{Package: "b", Size: plan.Size{Images: 2, Bytes: 112, Held: 110, Missing: 2}},
			{Package: "a", Size: plan.Size{Images: 2, Bytes: 111, Held: 110, Missing: 1}},
		},
	}}
	if !reflect.DeepEqual(p.Catalogs, want) {
		t.Errorf("by catalog %+v, want %+v", p.Catalogs, want)
	}
}
