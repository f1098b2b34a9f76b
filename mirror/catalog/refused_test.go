package catalog_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// values of a catalog; the bundle has a name of its own, so that a package can have two.
func packageValue(name, channel string) string {
	return fmt.Sprintf(`{"schema":"olm.package","name":%q,"defaultChannel":%q}`, name, channel)
}

func channelValue(pkg, entries string) string {
	return fmt.Sprintf(`{"schema":"olm.channel","package":%q,"name":"s","entries":[%s]}`, pkg, entries)
}

func bundleValue(pkg, version, image string) string {
	return fmt.Sprintf(`{"schema":"olm.bundle","package":%[1]q,"name":"%[1]s.v%[2]s","image":%[3]q,"properties":[{"type":"olm.package","value":{"packageName":%[1]q,"version":%[2]q}}]}`, pkg, version, image)
}

// A package for which OLM would refuse the whole catalog, or that cannot be selected, is left out by
// its name, and the others are in the catalog: also where the entry lists none.
func TestCollect_refusedPackage(t *testing.T) {
	const one, two, image = `{"name":"app.v1.0.0"}`, `{"name":"app.v2.0.0","replaces":"app.v1.0.0"}`, "example.com/app:v1"
	good, channel := packageValue("app", "s"), channelValue("app", one)
	bundle := bundleValue("app", "1.0.0", image)
	for name, tc := range map[string]struct{ values, want string }{
		"no default channel":       {packageValue("app", "") + channel + bundle, "it has no default channel"},
		"a default that is absent": {packageValue("app", "x") + channel + bundle, `default channel "x"`},
		"an entry without bundle":  {good + channelValue("app", two+","+one) + bundle, `entry "app.v2.0.0" has no bundle`},
		"no olm.package":           {channel + bundle, "it has no olm.package"},
		"a bundle twice":           {good + channel + bundle + bundle, `it has bundle "app.v1.0.0" twice`},
		"olm.package twice":        {good + good + channel + bundle, "it has 2 of olm.package"},
		"a channel twice":          {good + channel + channel + bundle, `it has channel "s" twice`},
		"no channel":               {good + bundle, "app"},
		"no image":                 {good + channel + bundleValue("app", "1.0.0", ""), `bundle "app.v1.0.0" of package "app" has no image`},
		"another name":             {strings.ReplaceAll(good+channel+bundle, "app", "App"), "RFC 1123"},
		"no version":               {good + channel + strings.Replace(bundle, `"version":"1.0.0"`, `"version":""`, 1), "has no package property"},
		"two heads":                {good + channelValue("app", one+`,{"name":"app.v2.0.0"}`) + bundle + bundleValue("app", "2.0.0", image), "multiple channel heads"},
		"a cycle":                  {good + channelValue("app", `{"name":"app.v1.0.0","replaces":"app.v1.0.0"}`) + bundle, "replaces itself"},
	} {
		for asked, packages := range map[string][]imageset.Package{"": nil, ", listed": {{Name: "app"}, {Name: "App"}, {Name: "lib"}}} {
			t.Run(name+asked, func(t *testing.T) {
				dir := dependent(t)
				if err := os.WriteFile(filepath.Join(dir, "app", "catalog.json"), []byte(tc.values), 0o600); err != nil {
					t.Fatal(err)
				}
				made, p := collected(t, imageset.Operator{Catalog: "dir://" + dir, Packages: packages})
				if made != "lib" {
					t.Errorf("the catalog has %s", made)
				}
				if len(p.Failures) != 1 || !strings.Contains(p.Failures[0].Error, tc.want) || !strings.Contains(p.Failures[0].Image.Origin, "app") && name != "another name" {
					t.Errorf("failures %+v", p.Failures)
				}
				for _, w := range p.Warnings {
					if strings.Contains(w, "OLM refuses") {
						t.Errorf("a warning: %s", w)
					}
				}
			})
		}
	}
}

// collected returns the packages of the catalog that an entry makes, and the plan.
func collected(t *testing.T, ask imageset.Operator) (made string, p *plan.Plan) {
	t.Helper()
	config := &imageset.Config{Mirror: imageset.Mirror{Operators: []imageset.Operator{ask}}}
	c := &catalog.Collector{Config: config, Dir: t.TempDir(), Repository: func(name string) string { return name }}
	p = &plan.Plan{}
	if err := c.Collect(t.Context(), p); err != nil {
		t.Fatal(err)
	}
	all, err := c.Build(t.Context(), p)
	if err != nil || len(all) != 1 {
		t.Fatalf("made %v, %v, failures %+v", all, err, p.Failures)
	}
	return packages(t, all[0]), p
}

// The byte order mark of an editor of Windows is not a part of a catalog.
func TestCollect_byteOrderMark(t *testing.T) {
	dir := dependent(t)
	file := filepath.Join(dir, "app", "catalog.json")
	text, err := os.ReadFile(file)
	if err == nil {
		err = os.WriteFile(file, append([]byte("\uFEFF"), text...), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	if made, p := collected(t, imageset.Operator{Catalog: "dir://" + dir}); made != "app lib" || len(p.Failures) > 0 {
		t.Errorf("the catalog has %s, failures %+v", made, p.Failures)
	}
}
