package operator_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// needing returns a catalog: app requires by each property that is given, and lib provides.
func needing(properties ...string) fstest.MapFS {
	bundle := func(pkg, v string, more ...string) string {
		all := append([]string{fmt.Sprintf(`{"type":"olm.package","value":{"packageName":%q,"version":%q}}`, pkg, v)}, more...)
		return fmt.Sprintf(`{"schema":"olm.bundle","package":%q,"name":"%s.v%s","image":"example.com/%s:v%s","properties":[%s]}`+"\n", pkg, pkg, v, pkg, v, strings.Join(all, ","))
	}
	api := func(kind string) string {
		return fmt.Sprintf(`{"type":"olm.gvk","value":{"group":"example.com","version":"v1","kind":%q}}`, kind)
	}
	app := `{"schema":"olm.package","name":"app","defaultChannel":"s"}
{"schema":"olm.channel","package":"app","name":"s","entries":[{"name":"app.v1.0.0"}]}
` + bundle("app", "1.0.0", properties...)
	lib := `{"schema":"olm.package","name":"lib","defaultChannel":"s"}
{"schema":"olm.channel","package":"lib","name":"old","entries":[{"name":"lib.v1.0.0"},{"name":"lib.v1.1.0","replaces":"lib.v1.0.0"}]}
{"schema":"olm.channel","package":"lib","name":"s","entries":[{"name":"lib.v2.0.0"},{"name":"lib.v2.1.0","replaces":"lib.v2.0.0"},{"name":"lib.v2.2.0","replaces":"lib.v2.1.0"}]}
` + bundle("lib", "1.0.0", api("Lib")) + bundle("lib", "1.1.0", api("Lib"), api("Old")) + bundle("lib", "2.0.0", api("Lib")) +
		bundle("lib", "2.1.0", api("Lib")) + bundle("lib", "2.2.0", api("Lib"), `{"type":"olm.package.required","value":{"packageName":"deep","versionRange":">=1.0.0"}}`)
	deep := `{"schema":"olm.package","name":"deep","defaultChannel":"d"}
{"schema":"olm.channel","package":"deep","name":"d","entries":[{"name":"deep.v1.0.0"}]}
` + bundle("deep", "1.0.0", api("Deep"))
	another := `{"schema":"olm.package","name":"another","defaultChannel":"z"}
{"schema":"olm.channel","package":"another","name":"y","entries":[{"name":"another.v9.0.0"}]}
{"schema":"olm.channel","package":"another","name":"z","entries":[{"name":"another.v0.1.0"}]}
` + bundle("another", "9.0.0", api("Lib")) + bundle("another", "0.1.0")
	return fstest.MapFS{
		"app/c.json": {Data: []byte(app)}, "lib/c.json": {Data: []byte(lib)},
		"deep/c.json": {Data: []byte(deep)}, "another/c.json": {Data: []byte(another)},
	}
}

const (
	needsLib = `{"type":"olm.package.required","value":{"packageName":"lib","versionRange":"%s"}}`
	needsAPI = `{"type":"olm.gvk.required","value":{"group":"example.com","version":"v1","kind":"%s"}}`
)

func TestFollow_addsWhatOLMWouldChoose(t *testing.T) {
	constraint := func(value string) string { return `{"type":"olm.constraint","value":` + value + `}` }
	lib, deep := []string{"lib.v2.2.0"}, []string{"deep.v1.0.0"}
	for _, tc := range []struct {
		name, property string
		want           []string // bundles that are added
		channel        string   // the default of lib
		lacks          string
	}{
		{name: "a package: the head of its default channel, and what that requires", property: fmt.Sprintf(needsLib, ">=1.0.0"), want: slices.Concat(deep, lib), channel: "s"},
		{name: "a range that leaves the head out", property: fmt.Sprintf(needsLib, ">=2.0.0 <2.2.0"), want: []string{"lib.v2.1.0"}, channel: "s"},
		{name: "a range of another channel", property: fmt.Sprintf(needsLib, "<2.0.0"), want: []string{"lib.v1.1.0"}, channel: "old"},
		{name: "an API: default channels first", property: fmt.Sprintf(needsAPI, "Lib"), want: slices.Concat(deep, lib), channel: "s"},
		{name: "an API that an old bundle has", property: fmt.Sprintf(needsAPI, "Old"), want: []string{"lib.v1.1.0"}, channel: "old"},
		{name: "a head that is not there", property: fmt.Sprintf(needsLib, ">=1.0.0"), want: []string{"lib.v2.1.0"}, channel: "s", lacks: "lib.v2.2.0"},
		{name: "nothing provides it", property: fmt.Sprintf(needsAPI, "Nope")},
		{name: "all", property: constraint(`{"all":{"constraints":[{"package":{"packageName":"lib","versionRange":">=1.0.0"}},{"not":{"constraints":[{"package":{"packageName":"lib","versionRange":">=2.2.0"}}]}}]}}`), want: []string{"lib.v2.1.0"}, channel: "s"},
		{name: "any", property: constraint(`{"any":{"constraints":[{"gvk":{"group":"example.com","version":"v1","kind":"Nope"}},{"package":{"packageName":"deep","versionRange":"1.0.0"}}]}}`), want: deep},
		{name: "an expression", property: constraint(`{"failureMessage":"x","cel":{"rule":"true"}}`)},
		{name: "not an expression", property: constraint(`{"not":{"constraints":[{"cel":{"rule":"true"}}]}}`)},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := needing(tc.property)
			s, err := scan(t, files).Select(imageset.Operator{Packages: []imageset.Package{{Name: "app"}}}, func(_, b string) bool { return b == tc.lacks })
			if err != nil {
				t.Fatal(err)
			}
			needs := s.Dependencies()
			if len(needs) != 1 || needs[0].Selected || (needs[0].Provider == nil) != (tc.want == nil) {
				t.Fatalf("dependencies are %v", needs)
			}
			added := s.Follow()
			var got []string
			for _, b := range s.Bundles {
				if b.Package != "app" {
					got = append(got, b.Name)
				}
			}
			if !slices.Equal(got, tc.want) || len(added) != len(tc.want) {
				t.Errorf("%v is added for %v, want %v", got, added, tc.want)
			}
			for _, p := range read(t, s, files).Packages {
				if p.Name == "lib" && p.DefaultChannel != tc.channel {
					t.Errorf("the default channel of lib is %q", p.DefaultChannel)
				}
			}
			if warned := len(s.Warnings) > 0; warned != (tc.want == nil) {
				t.Errorf("warnings are %v", s.Warnings)
			}
		})
	}
}

func TestFollow_widensAChannel(t *testing.T) {
	files := needing(fmt.Sprintf(needsLib, "2.0.0"))
	s, err := scan(t, files).Select(imageset.Operator{Packages: []imageset.Package{{Name: "app"}, {Name: "lib", Channels: []imageset.PackageChannel{{Name: "s"}}}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if needs := s.Dependencies(); len(needs) != 2 || needs[0].Selected {
		t.Fatalf("dependencies are %v", needs)
	}
	s.Follow()
	for _, p := range s.Packages {
		if p.Name == "lib" && (len(p.Channels) != 1 || len(p.Channels[0].Entries) != 3) {
			t.Errorf("the path between the head and what is required is not in %v", p.Channels)
		}
	}
	for _, d := range s.Dependencies() {
		if !d.Selected {
			t.Errorf("left: %s", d)
		}
	}
}

// A package that would spoil the whole catalog is not added to it.
func TestFollow_refusedPackage(t *testing.T) {
	files := needing(fmt.Sprintf(needsLib, ">=2.2.0"))
	files["deep/again.json"] = &fstest.MapFile{Data: []byte(`{"schema":"olm.package","name":"deep","defaultChannel":"d"}`)}
	s, err := scan(t, files).Select(imageset.Operator{Packages: []imageset.Package{{Name: "app"}}}, nil)
	if err != nil {
		t.Fatal(err)
	}
	added := s.Follow()
	if len(added) != 1 || added[0].Provider.Package != "lib" || len(s.Packages) != 2 || len(s.Bundles) != 2 {
		t.Errorf("added %v, packages %v, bundles %v", added, s.Packages, s.Bundles)
	}
	var texts []string
	for _, w := range s.Warnings {
		texts = append(texts, w.Text)
	}
	if all := strings.Join(texts, "\n"); !strings.Contains(all, `"deep", which others require, is not added: it has 2 of olm.package`) || !strings.Contains(all, "requires") {
		t.Errorf("warnings\n%s", all)
	}
}
