package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// dependent is a catalog of two packages, of which app requires lib.
func dependent(t *testing.T) (dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "index")
	images := map[string]string{"app": "example.com/app:v1", "lib": "example.com/lib@" + ofLib}
	for pkg, more := range map[string]string{"app": `,{"type":"olm.package.required","value":{"packageName":"lib","versionRange":">=1.0.0"}}`, "lib": ""} {
		text := fmt.Sprintf(`{"schema":"olm.package","name":%[1]q,"defaultChannel":"s"}
{"schema":"olm.channel","package":%[1]q,"name":"s","entries":[{"name":"%[1]s.v1.0.0"}]}
{"schema":"olm.bundle","package":%[1]q,"name":"%[1]s.v1.0.0","image":%[3]q,"properties":[{"type":"olm.package","value":{"packageName":%[1]q,"version":"1.0.0"}}%[2]s]}`, pkg, more, images[pkg])
		if err := os.MkdirAll(filepath.Join(dir, pkg), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, pkg, "catalog.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

const ofLib = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// Version 1 names images of catalogs on this host by the beginning of their digest.
//
// Spec: oc-mirror 9.7.
func TestCollect_tagsOfV1(t *testing.T) {
	for v1, want := range map[bool]string{true: "v1 012345", false: "v1 " + strings.Replace(ofLib, ":", "-", 1)} {
		config := &imageset.Config{Mirror: imageset.Mirror{Operators: []imageset.Operator{{Catalog: "dir://" + dependent(t), Full: true}}}}
		c := &catalog.Collector{Config: config, Dir: t.TempDir(), V1: v1, Repository: func(name string) string { return name }}
		p := &plan.Plan{}
		if err := c.Collect(t.Context(), p); err != nil || len(p.Images) != 2 {
			t.Fatalf("%v, images %v, failures %+v", err, p.Images, p.Failures)
		}
		if got := p.Images[0].Tag + " " + p.Images[1].Tag; got != want {
			t.Errorf("tags %s, want %s", got, want)
		}
	}
}

// Version 1 follows dependencies unless an entry says otherwise, and a flag of the run asks for all.
//
// Spec: oc-mirror 9.7.
func TestCollect_followsDependencies(t *testing.T) {
	for _, tc := range []struct {
		api, key string
		flag     bool
		want     string
	}{
		{api: "v1alpha2", want: "app lib"},
		{api: "v1alpha2", key: ", skipDependencies: false", want: "app lib"},
		{api: "v1alpha2", key: ", skipDependencies: true", want: "app"},
		{api: "v1alpha2", key: ", skipDependencies: true", flag: true, want: "app lib"},
		{api: "v2alpha1", want: "app"},
		{api: "v2alpha1", flag: true, want: "app lib"},
	} {
		t.Run(fmt.Sprint(tc.api, tc.key, tc.flag), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "isc.yaml")
			text := fmt.Sprintf("kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/%s\nmirror:\n  operators:\n  - {catalog: 'dir://%s', packages: [{name: app}]%s}\n", tc.api, dependent(t), tc.key)
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			config, err := imageset.LoadEither(file)
			if err != nil {
				t.Fatal(err)
			}
			workspace := t.TempDir()
			c := &catalog.Collector{Config: config, Dir: workspace, Follow: tc.flag, Repository: func(name string) string { return name }}
			p := &plan.Plan{}
			if err := c.Collect(t.Context(), p); err != nil || len(p.Failures) > 0 {
				t.Fatalf("%v, failures %+v", err, p.Failures)
			}
			var got []string
			for _, i := range p.Images {
				got = append(got, i.Reference.Path)
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("images of %v, want %s", got, tc.want)
			}
			made, err := c.Build(t.Context(), p)
			if err != nil || len(made) != 1 {
				t.Fatalf("made %v, %v, %+v", made, err, p.Failures)
			}
			if has := packages(t, made[0]); has != tc.want {
				t.Errorf("the catalog has %s, want %s", has, tc.want)
			}
		})
	}
}

// packages returns those of a catalog that was made.
func packages(t *testing.T, made catalog.Made) string {
	t.Helper()
	c, err := catalog.Find(t.Context(), made.Source, made.Image.Reference.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	dir, err := c.Extract(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	index, err := operator.Scan(t.Context(), os.DirFS(dir))
	if err != nil {
		t.Fatal(err)
	}
	all, err := index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range all.Packages {
		names = append(names, p.Name)
	}
	return strings.Join(names, " ")
}
