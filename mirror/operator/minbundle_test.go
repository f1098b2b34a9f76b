package operator_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// channelsOf returns the channels of the first package with their bundles.
func channelsOf(s *operator.Selection) string {
	var all []string
	for _, c := range s.Packages[0].Channels {
		line := c.Name + ":"
		for _, e := range c.Entries {
			line += " " + e.Name
		}
		all = append(all, line)
	}
	return strings.Join(all, "; ")
}

// The range begins at the version of the bundle, in the channels that have it.
//
// Spec: oc-mirror 2.4.
func TestSelect_minBundle(t *testing.T) {
	channel := func(name, bundle string) []imageset.PackageChannel {
		return []imageset.PackageChannel{{Name: name, MinBundle: bundle}}
	}
	for name, tc := range map[string]struct {
		ask    imageset.Package
		want   string // channels with their bundles, in the catalog's order
		saying string
	}{
		"of a channel": {ask: imageset.Package{Name: "alder", Channels: channel("stable", "alder.v1.2.0")},
			want: "stable: alder.v1.2.0 alder.v2.0.0"},
		"of a channel, up to a version": {ask: imageset.Package{Name: "alder", Channels: []imageset.PackageChannel{{Name: "stable", MinBundle: "alder.v1.1.0", MaxVersion: "1.2.0"}}},
			want: "stable: alder.v1.1.0 alder.v1.2.0"},
		"the head": {ask: imageset.Package{Name: "alder", Channels: channel("stable", "alder.v2.0.0")}, want: "stable: alder.v2.0.0"},
		"of a package: the channels that have it": {ask: imageset.Package{Name: "alder", MinBundle: "alder.v1.2.0"},
			want:   "fast: alder.v1.2.0 alder.v2.0.0 alder.v2.1.0; stable: alder.v1.2.0 alder.v2.0.0",
			saying: `channel "eol" of package "alder" is left out`},
		"of a package, which a channel overrides": {ask: imageset.Package{Name: "alder", MinBundle: "alder.v1.1.0",
			Channels: []imageset.PackageChannel{{Name: "stable"}, {Name: "fast", MinBundle: "alder.v2.0.0"}}},
			want: "fast: alder.v2.0.0 alder.v2.1.0; stable: alder.v1.1.0 alder.v1.2.0 alder.v2.0.0"},
		"of a package, in one channel that is not the default": {ask: imageset.Package{Name: "alder", MinBundle: "alder.v1.0.1"},
			want: "eol: alder.v1.0.1", saying: `does not have bundle "alder.v1.0.1": channel "eol" becomes the default`},
		"beside versions of another channel": {ask: imageset.Package{Name: "alder",
			Channels: []imageset.PackageChannel{{Name: "stable", MinBundle: "alder.v2.0.0"}, {Name: "eol", MinVersion: "1.0.1"}}},
			want: "eol: alder.v1.0.1; stable: alder.v2.0.0"},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := scan(t, catalog(t, "trees")).Select(imageset.Operator{Packages: []imageset.Package{tc.ask}}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := channelsOf(s); got != tc.want {
				t.Errorf("selected %s\nwant %s", got, tc.want)
			}
			said := slices.ContainsFunc(s.Warnings, func(w operator.Warning) bool { return strings.Contains(w.Text, tc.saying) })
			if tc.saying != "" && !said || tc.saying == "" && len(s.Warnings) > 0 {
				t.Errorf("warnings %v", s.Warnings)
			}
		})
	}
}

func TestSelect_minBundleRefused(t *testing.T) {
	for want, ask := range map[string]imageset.Operator{
		`package "alder" channel "stable": it has no bundle "alder.v1.0.1", which minBundle names`: {
			Packages: []imageset.Package{{Name: "alder", Channels: []imageset.PackageChannel{{Name: "stable", MinBundle: "alder.v1.0.1"}}}}},
		`the package has no bundle "alder.v9", which minBundle names`: {Packages: []imageset.Package{{Name: "alder", MinBundle: "alder.v9"}}},
		`package "alder": Full: true cannot be mixed with minBundle`:  {Full: true, Packages: []imageset.Package{{Name: "alder", MinBundle: "alder.v1.1.0"}}},
	} {
		_, err := scan(t, catalog(t, "trees")).Select(ask, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
		if !ask.Full && !strings.Contains(hint.Of(err), "alder.v1.1.0") {
			t.Errorf("the hint is %q", hint.Of(err))
		}
	}
}
