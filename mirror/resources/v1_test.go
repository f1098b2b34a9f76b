package resources_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/mirror/resources"
)

// Spec: oc-mirror 9.6.
func TestRenderV1_policies(t *testing.T) {
	m := resources.Mirrored{Images: []resources.Image{
		{Category: "generic", Source: "quay.io/ns/a", Destination: "m.io/x/ns/a", ByTag: true},
		{Category: "generic", Source: "quay.io/ns/b", Destination: "m.io/x/ns/b", ByTag: true},
		{Category: "operator", Source: "r.io/op/c", Destination: "m.io/x/op/c", ByDigest: true},
		{Category: "release", Source: "quay.io/openshift-release-dev/ocp-v4.0-art-dev", Destination: "m.io/x/openshift/release", ByDigest: true},
	}}
	files, err := resources.RenderV1(m, resources.Options{})
	if err != nil || len(files) != 1 || files[0].Name != "imageContentSourcePolicy.yaml" {
		t.Fatalf("rendered %v, %v", files, err)
	}
	const want = `---
apiVersion: operator.openshift.io/v1alpha1
kind: ImageContentSourcePolicy
metadata:
  name: generic-0
spec:
  repositoryDigestMirrors:
  - mirrors:
    - m.io/x/ns
    source: quay.io/ns
---
apiVersion: operator.openshift.io/v1alpha1
kind: ImageContentSourcePolicy
metadata:
  labels:
    operators.openshift.org/catalog: "true"
  name: operator-0
spec:
  repositoryDigestMirrors:
  - mirrors:
    - m.io/x/op
    source: r.io/op
---
apiVersion: operator.openshift.io/v1alpha1
kind: ImageContentSourcePolicy
metadata:
  name: release-0
spec:
  repositoryDigestMirrors:
  - mirrors:
    - m.io/x/openshift/release
    source: quay.io/openshift-release-dev/ocp-v4.0-art-dev
`
	if got := string(files[0].Data); got != want {
		t.Errorf("the policies are\n%s", got)
	}
}

// A policy that is too large becomes several, each with a name of its own, and no entry is lost.
//
// Spec: oc-mirror 9.6.
func TestRenderV1_largePolicies(t *testing.T) {
	var m resources.Mirrored
	for n := range 5000 {
		path := fmt.Sprintf("%s-%d/x", strings.Repeat("n", 50), n)
		m.Images = append(m.Images, resources.Image{Category: "generic", Source: "q.io/" + path, Destination: "m.io/" + path})
	}
	files, err := resources.RenderV1(m, resources.Options{})
	if err != nil || len(files) != 1 {
		t.Fatal(err)
	}
	entries := 0
	var names []string
	for _, doc := range strings.Split(string(files[0].Data), "---\n")[1:] {
		var p struct {
			Metadata struct{ Name string }
			Spec     struct{ RepositoryDigestMirrors []any }
		}
		if err := yaml.Unmarshal([]byte(doc), &p); err != nil || len(doc) > 250_000 {
			t.Errorf("a document of %d bytes, %v", len(doc), err)
		}
		entries += len(p.Spec.RepositoryDigestMirrors)
		names = append(names, p.Metadata.Name)
	}
	if !slices.Equal(names, []string{"generic-0", "generic-1", "generic-2", "generic-3"}) || entries != 5000 {
		t.Errorf("policies %v with %d entries", names, entries)
	}
}

// Spec: oc-mirror 9.6.
func TestRenderV1_ofAReleaseWithItsGraph(t *testing.T) {
	m := mirrored(images())
	files, err := resources.RenderV1(m, options())
	if err != nil {
		t.Fatal(err)
	}
	text := map[string]string{}
	for _, f := range files {
		text[f.Name] = string(f.Data)
	}
	id := m.Signatures[0].Digest.Encoded()
	one := text["release-signatures/signature-sha256-"+id[:16]+".json"]
	if !strings.Contains(one, `"sha256-`+id+`-1"`) || !strings.Contains(one, `"name":"sha256-`+id[:16]+`"`) {
		t.Errorf("the signature is %q, of %v", one, names(files))
	}
	if u := text["updateService.yaml"]; strings.Contains(u, "namespace") || !strings.Contains(u, m.Updates.GraphImage) {
		t.Errorf("the update service is %s", u)
	}
}

// Spec: oc-mirror 9.6.
func TestRenderV1_namesOfCatalogs(t *testing.T) {
	long := strings.Repeat("x", 59)
	for origins, want := range map[string]string{
		"r.io/redhat/redhat-operator-index:v4.18":                      "cs-redhat-operator-index",
		"docker://r.io:443/a/B_.c@sha256:" + strings.Repeat("0", 64):   "cs-b-c",
		"r.io/cp/test/common-services:v1":                              "cs-test-common-services",
		"localhost:5000/index:v1":                                      "cs-index",
		"oci:///data/some-index":                                       "cs-some-index",
		"oci:///data/Cat/some-index:v1":                                "cs-cat-some-index",
		"r.io/redhat/redhat-operator-index:v4.18=r.io/mine/a/index:v1": "cs-a-index",
		"oci:///data/cat/some-index=mine/index:v1":                     "cs-index",
		"r.io/a/b_:v1":              "cs-b-0",
		"r.io/a/" + long + "-y:v1":  "cs-" + long[:58] + "-0",
		"r.io/a/" + long + "yyy:v1": "cs-" + long + "y",
		"r.io/a/index:v1 r.io/a/index:v2 r.io/b/index:v1 r.io/c/i:v1": "cs-index cs-index-1 cs-index-2 cs-i",
	} {
		t.Run(want, func(t *testing.T) {
			var m resources.Mirrored
			for n, origin := range strings.Fields(origins) {
				origin, unique, _ := strings.Cut(origin, "=")
				m.Catalogs = append(m.Catalogs, resources.Catalog{Origin: origin, UniqueName: unique, Image: fmt.Sprintf("m.io/i:v%d", n)})
			}
			files, err := resources.RenderV1(m, resources.Options{})
			if err != nil {
				t.Fatal(err)
			}
			for n, name := range strings.Fields(want) {
				text := fmt.Sprintf("apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nmetadata:\n  name: %s\n  namespace: openshift-marketplace\n"+
					"spec:\n  image: m.io/i:v%d\n  sourceType: grpc\n", name, n)
				if f := files[n]; f.Name != "catalogSource-"+name+".yaml" || string(f.Data) != text {
					t.Errorf("%s has\n%s\nwant\n%s", f.Name, f.Data, text)
				}
			}
		})
	}
}
