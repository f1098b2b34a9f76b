package resources_test

import (
	"fmt"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/mirror/resources"
)

// Spec: oc-mirror 5.8.
func TestRender_namesOfCatalogs(t *testing.T) {
	for image, want := range map[string]string{
		"m.io:8443/ns1/redhat/my-operator-index:v4.18":                          "cs-my-operator-index-v4-18.yaml cc-my-operator-index-v4-18.yaml",
		"m.io/a/my-operator-index:sha256-d6c3d43c0a":                            "cs-my-operator-index-sha256-d6c3d.yaml cc-my-operator-index-sha256-d6c3d.yaml",
		"m.io/a.b/c.d:V1_0":                                                     "cs-c-d-v1-0.yaml cc-c-d-v1-0.yaml",
		"m.io/a/b:1-":                                                           "cs-b-1.yaml cc-b-1.yaml",
		"m.io/" + strings.Repeat("x", 100) + ":v4.18":                           "cs-" + strings.Repeat("x", 54) + "-v4-18.yaml cc-" + strings.Repeat("x", 54) + "-v4-18.yaml",
		"m.io/redhat/redhat-operator-index:v4.18":                               "cs-redhat-operator-index-v4-18.yaml cc-redhat-operator-index-v4-18.yaml",
		"m.io/a/i:v1 m.io/b/i:v1":                                               "cs-i-v1.yaml cc-i-v1.yaml cs-i-v1-eda15c.yaml cc-i-v1-eda15c.yaml",
		"default m.io/redhat/redhat-operator-index:v4.18":                       "redhat-operators.yaml openshift-redhat-operators.yaml",
		"default m.io/redhat/certified-operator-index:v4.18 m.io/x/other:v4.18": "certified-operators.yaml openshift-certified-operators.yaml cs-other-v4-18.yaml cc-other-v4-18.yaml",
	} {
		t.Run(image, func(t *testing.T) {
			o := options()
			var m resources.Mirrored
			for _, word := range strings.Fields(image) {
				if word == "default" {
					o.DefaultSourceNames = true
					continue
				}
				m.Catalogs = append(m.Catalogs, resources.Catalog{Image: word})
			}
			files, err := resources.Render(m, o)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(names(files), " "); got != want {
				t.Errorf("got %s\nwant %s", got, want)
			}
		})
	}
}

// A name that was given stays; one that cannot be a name, or that another catalog has, is given anew.
func TestNamed(t *testing.T) {
	for given, want := range map[string]string{
		"m.io/a/i:v1 m.io/b/i:v1=cs-i-v1":                                 "m.io/a/i:v1=cs-i-v1-4aa479 m.io/b/i:v1=cs-i-v1",
		"m.io/a/i:v1=cs-i-v1 m.io/b/i:v1=cs-i-v1":                         "m.io/a/i:v1=cs-i-v1 m.io/b/i:v1=cs-i-v1-eda15c",
		"m.io/a/i:v1=../x":                                                "m.io/a/i:v1=cs-i-v1",
		"m.io/a/i:v1=" + strings.Repeat("x", 64):                          "m.io/a/i:v1=cs-i-v1",
		"m.io/a/i:v1=cs-other m.io/a/i:v1=cs-another":                     "m.io/a/i:v1=cs-other",
		"m.io/a/i:v1=cs-i-v1 m.io/b/i:v1 m.io/x/cs-i-v1:x=cs-i-v1-eda15c": "m.io/a/i:v1=cs-i-v1 m.io/b/i:v1=cs-i-v1-eda15c-2 m.io/x/cs-i-v1:x=cs-i-v1-eda15c",
	} {
		var all []resources.Catalog
		for _, word := range strings.Fields(given) {
			image, name, _ := strings.Cut(word, "=")
			all = append(all, resources.Catalog{Image: image, Names: resources.Names{Source: name}})
		}
		named, clashes := resources.Named(all, options())
		var got []string
		for _, c := range named {
			got = append(got, c.Image+"="+c.Names.Source)
			reason := clashes[c.Names.Source]
			kept := strings.Contains(given+" ", "="+c.Names.Source+" ")
			if clash := strings.HasPrefix(reason, "cs-i-v1 is that of m.io/"); clash != (!kept && c.Names.Source != "cs-i-v1") {
				t.Errorf("%s: the reason of %s is %q", given, c.Names.Source, reason)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: got %s\nwant %s", given, strings.Join(got, " "), want)
		}
	}
}

// Spec: oc-mirror 5.8.
func TestRender_ofATemplate(t *testing.T) {
	const template = `apiVersion: operators.coreos.com/v1alpha1
kind: CatalogSource
metadata:
  name: another
  namespace: elsewhere
  annotations: {kept: "yes"}
spec:
  image: example.com/another:v1
  displayName: Mine
  updateStrategy: {registryPoll: {interval: 30m}}
`
	files, err := resources.Render(resources.Mirrored{Catalogs: []resources.Catalog{{Image: "m.io/x/index:v1", Template: []byte(template)}}}, options())
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Metadata struct {
			Name, Namespace string
			Annotations     map[string]string
		}
		Spec struct {
			Image, SourceType, DisplayName string
			UpdateStrategy                 map[string]any
		}
	}
	if err := yaml.Unmarshal(files[0].Data, &got); err != nil {
		t.Fatal(err)
	}
	if got.Metadata.Name != "cs-index-v1" || got.Metadata.Namespace != "openshift-marketplace" || got.Spec.Image != "m.io/x/index:v1" ||
		got.Spec.SourceType != "grpc" || got.Spec.DisplayName != "Mine" || got.Spec.UpdateStrategy == nil ||
		got.Metadata.Annotations["kept"] != "yes" || got.Metadata.Annotations["createdBy"] == "" {
		t.Errorf("got\n%s", files[0].Data)
	}
}

// What a pod cannot start with is left out, and the rest of the template stays.
func TestRender_ofATemplateWithACache(t *testing.T) {
	const head = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nspec:\n  grpcPodConfig:\n    memoryTarget: 30Mi\n"
	const directory = "    extractContent:\n      catalogDir: /configs\n"
	for template, want := range map[string]string{
		head + directory: "  grpcPodConfig:\n" + directory + "    memoryTarget: 30Mi\n",
		head + directory + "      cacheDir: /tmp/cache": "  grpcPodConfig:\n    memoryTarget: 30Mi\n  image",
	} {
		files, err := resources.Render(resources.Mirrored{Catalogs: []resources.Catalog{{Image: "m.io/x/index:v1", Template: []byte(template)}}}, options())
		if err != nil {
			t.Fatal(err)
		}
		if got := string(files[0].Data); !strings.Contains(got, want) {
			t.Errorf("of\n%s\nthere is\n%s", template, got)
		}
	}
}

// OLM v0 cannot start a catalog that was made of a directory, whose pod would restart for ever.
func TestRender_ofADirectory(t *testing.T) {
	const template = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\nspec: {grpcPodConfig: {extractContent: {catalogDir: /configs%s}}}\n"
	for text, want := range map[string]string{
		"":                        "cc-index-v1.yaml",
		fmt.Sprintf(template, ""): "cs-index-v1.yaml cc-index-v1.yaml",
		fmt.Sprintf(template, ", cacheDir: /tmp/cache"): "cc-index-v1.yaml", // which is left out
	} {
		c := resources.Catalog{Image: "m.io/x/index:v1", Origin: "dir:///data/index", Template: []byte(text)}
		files, err := resources.Render(resources.Mirrored{Catalogs: []resources.Catalog{c}}, options())
		if got := strings.Join(names(files), " "); err != nil || got != want {
			t.Errorf("with the template %q there are %s, %v; want %s", text, got, err, want)
		}
	}
}

func TestCheckTemplate(t *testing.T) {
	const head = "apiVersion: operators.coreos.com/v1alpha1\nkind: CatalogSource\n"
	for name, test := range map[string]struct{ text, err, warning string }{
		"good":                {head + "spec: {sourceType: grpc}", "", ""},
		"another kind":        {"apiVersion: v1\nkind: Secret\n", `it is "Secret" of "v1"`, ""},
		"a list":              {"- a", "it is not YAML", ""},
		"a configmap":         {head + "spec: {configMap: x}", "spec.configMap", ""},
		"another source type": {head + "spec: {sourceType: internal}", `spec.sourceType is "internal"`, ""},
		"a cache":             {head + "spec: {grpcPodConfig: {extractContent: {cacheDir: /tmp/cache, catalogDir: /configs}}}", "", "extractContent"},
		"nothing":             {"", `it is ""`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			warning, err := resources.CheckTemplate([]byte(test.text))
			if test.err == "" && err != nil || test.err != "" && (err == nil || !strings.Contains(err.Error(), test.err)) {
				t.Errorf("the error is %v", err)
			}
			if !strings.Contains(warning, test.warning) || (test.warning == "") != (warning == "") {
				t.Errorf("the warning is %q", warning)
			}
		})
	}
}
