package operator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// The head rule of a range holds for bundles that are not there.
//
// Spec: oc-mirror 5.3, 5.4.
func TestSelect_lacking(t *testing.T) {
	spruce := func(v string) string { return "spruce.v1." + v + ".0" }
	for _, tc := range []struct {
		name   string
		pkg    imageset.Package
		full   bool
		lacks  []string
		want   map[string][]string // by channel
		isDef  string
		saying []string
	}{
		{name: "the head: the next one down becomes it", pkg: imageset.Package{Name: "spruce"}, lacks: []string{spruce("9")},
			want: map[string][]string{"long": {spruce("8")}}, isDef: "long",
			saying: []string{`bundle "spruce.v1.9.0" is left out`, "no newer version than 1.8.0", `is "spruce.v1.8.0" instead of "spruce.v1.9.0"`}},
		{name: "the head of a range", pkg: imageset.Package{Name: "spruce", MinVersion: "1.7.0"}, lacks: []string{spruce("9")},
			want: map[string][]string{"long": {spruce("8"), spruce("7")}}, isDef: "long"},
		{name: "one in the middle: what is above it stays", pkg: imageset.Package{Name: "spruce", MinVersion: "1.5.0"}, lacks: []string{spruce("7")},
			want: map[string][]string{"long": {spruce("9"), spruce("8")}}, isDef: "long",
			saying: []string{
				`a cluster that runs it upgrades to "spruce.v1.8.0"`,
				`bundle "spruce.v1.6.0" is left out of channel "long" of package "spruce": the upgrade path from it leads through a bundle that is not there`,
				"cannot upgrade in this channel"}},
		{name: "one in the middle, that a range could do without", pkg: imageset.Package{Name: "spruce", MinVersion: "1.2.0", MaxVersion: "1.3.0"}, lacks: []string{spruce("7")},
			want: map[string][]string{"long": {spruce("3"), spruce("2")}}, isDef: "long"},
		{name: "the lowest", pkg: imageset.Package{Name: "spruce", MinVersion: "1.8.0"}, lacks: []string{spruce("8")},
			want: map[string][]string{"long": {spruce("9")}}, isDef: "long", saying: []string{`a cluster that runs it upgrades to "spruce.v1.9.0"`}},
		{name: "a skipped one", pkg: imageset.Package{Name: "birch", MinVersion: "1.0.0"}, lacks: []string{"birch.v1.2.0"},
			want: map[string][]string{"main": {"birch.v1.0.0", "birch.v1.1.0", "birch.v1.3.0"}}, isDef: "main"},
		{name: "a head that skips: a skipped one becomes the head", pkg: imageset.Package{Name: "birch"}, lacks: []string{"birch.v1.3.0"},
			want: map[string][]string{"main": {"birch.v1.2.0"}}, isDef: "main"},
		{name: "the only one of an exact version: its channels go", pkg: imageset.Package{Name: "alder", MinVersion: "1.2.0", MaxVersion: "1.2.0"},
			lacks: []string{"alder.v1.2.0"}, saying: []string{`package "alder" is left out`}},
		{name: "all of the default channel: another becomes it", pkg: imageset.Package{Name: "hazel"}, lacks: []string{"hazel.v1.0.0", "hazel.v1.1.0"},
			want: map[string][]string{"b": {"hazel.v2.1.0"}, "c": {"hazel.v3.1.0"}}, isDef: "c", saying: []string{`channel "c" becomes the default`}},
		{name: "full", full: true, pkg: imageset.Package{Name: "alder"}, lacks: []string{"alder.v2.1.0"},
			want: map[string][]string{
				"eol": {"alder.v1.0.0", "alder.v1.0.1"}, "fast": {"alder.v1.2.0", "alder.v2.0.0"},
				"stable": {"alder.v1.0.0", "alder.v1.1.0", "alder.v1.2.0", "alder.v2.0.0"}}, isDef: "stable"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			files := catalog(t, "trees")
			// Another package keeps the catalog from being empty.
			ask := imageset.Operator{Full: tc.full, Packages: []imageset.Package{tc.pkg, {Name: "pine"}}}
			s, err := scan(t, files).Select(ask, func(pkg, bundle string) bool { return slices.Contains(tc.lacks, bundle) })
			if err != nil {
				t.Fatal(err)
			}
			got := map[string][]string{}
			for _, p := range read(t, s, files).Packages {
				if p.Name != tc.pkg.Name {
					continue
				}
				if p.DefaultChannel != tc.isDef {
					t.Errorf("the default channel is %q, want %q", p.DefaultChannel, tc.isDef)
				}
				for _, c := range p.Channels {
					for _, e := range c.Entries {
						got[c.Name] = append(got[c.Name], e.Name)
					}
				}
			}
			if asJSON(t, got) != asJSON(t, tc.want) && len(got)+len(tc.want) > 0 {
				t.Errorf("channels are %v, want %v", got, tc.want)
			}
			var said []string
			for _, w := range s.Warnings {
				said = append(said, w.String())
			}
			for _, want := range tc.saying {
				if !strings.Contains(strings.Join(said, "\n"), want) {
					t.Errorf("warnings are\n%s\nwant one with %s", strings.Join(said, "\n"), want)
				}
			}
			for _, b := range s.Bundles {
				if slices.Contains(tc.lacks, b.Name) {
					t.Errorf("%s is in the selection", b.Name)
				}
			}
		})
	}
}

func TestSelect_wholeOnlyWithAllBundles(t *testing.T) {
	x := scan(t, catalog(t, "odd"))
	s, err := x.Select(imageset.Operator{Full: true}, nil)
	if err != nil || !s.Whole() {
		t.Fatalf("full is not the whole catalog: %v", err)
	}
	files := catalog(t, "odd")
	s, err = x.Select(imageset.Operator{Full: true}, func(_, bundle string) bool { return bundle == "tulip.v1.1.0" })
	if err != nil || s.Whole() {
		t.Fatalf("a catalog with a bundle that is not there is whole: %v", err)
	}
	out := read(t, s, files)
	names := map[string]bool{}
	for _, b := range out.Bundles {
		names[b.Name] = true
	}
	if names["tulip.v1.1.0"] || !names["tulip.v1.0.0"] || !names["ivy.v0.9.0"] {
		t.Errorf("bundles are %v", names)
	}
}

func TestSelect_nothingIsAnError(t *testing.T) {
	x := scan(t, catalog(t, "trees"))
	for name, lacks := range map[string]func(_, _ string) bool{"an unknown package": nil, "nothing there": func(_, _ string) bool { return true }} {
		ask := imageset.Operator{Packages: []imageset.Package{{Name: "pine"}}}
		if lacks == nil {
			ask.Packages[0].Name = "nope"
		}
		_, err := x.Select(ask, lacks)
		if err == nil || !strings.Contains(err.Error(), "nothing of the catalog is left: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A channel that does not exist is named before what follows from it.
func TestSelect_unknownChannel(t *testing.T) {
	x := scan(t, catalog(t, "trees"))
	for _, channels := range [][]imageset.PackageChannel{{{Name: "stabel"}}, {{Name: "stabel"}, {Name: "fast"}}} {
		_, err := x.Select(imageset.Operator{Packages: []imageset.Package{{Name: "alder", Channels: channels}}}, nil)
		if err == nil || !strings.HasPrefix(err.Error(), `package "alder" has no channel "stabel"; it has `) || !strings.HasPrefix(hint.Of(err), "correct the name of the channel") {
			t.Errorf("%v, hint %s", err, hint.Of(err))
		}
	}
}
