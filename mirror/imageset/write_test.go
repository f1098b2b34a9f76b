package imageset

import (
	"strings"
	"testing"

	"github.com/blang/semver/v4"
)

func TestWrite_isReadBack(t *testing.T) {
	v := semver.MustParse
	h := Held{
		Graph: true,
		Releases: []HeldRelease{
			{Version: v("4.18.10"), Architecture: "amd64", Channel: "stable-4.18"},
			{Version: v("4.18.2"), Architecture: "arm64", Channel: "stable-4.18"},
			{Version: v("4.17.2"), Architecture: "amd64", Channel: "eus-4.18"},
			{Version: v("4.16.1"), Payload: "quay.io/openshift-release-dev/ocp-release:4.16.1-x86_64"},
		},
		Images: []HeldImage{
			{AdditionalImage: AdditionalImage{Name: "quay.io/b/c:v1", TargetRepo: "other/name", TargetTag: "v2", Platforms: []OSArch{{"linux", "arm64"}}}, Note: "one\nmirror: {}"},
			{AdditionalImage: AdditionalImage{Name: "quay.io/a/b:v1"}},
			// below three paths, one of which has it by a chart too
			{AdditionalImage: AdditionalImage{Name: "quay.io/d:v1", Platforms: []OSArch{{"linux", "arm64"}}}},
			{AdditionalImage: AdditionalImage{Name: "quay.io/d:v1", Platforms: []OSArch{{"linux", "arm64"}}}, Note: "of a chart"},
			{AdditionalImage: AdditionalImage{Name: "quay.io/d:v1", Platforms: []OSArch{{"linux", "arm64"}}}},
		},
		Notes: []string{"a note\nkind: other"},
	}
	text := Write(h)
	c, err := Parse("held.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	p := c.Mirror.Platform
	if !p.Graph || strings.Join(p.Architectures, " ") != "amd64 arm64" || len(p.Channels) != 2 ||
		p.Channels[0].Name != "eus-4.18" || p.Channels[1].MinVersion != "4.18.2" || p.Channels[1].MaxVersion != "4.18.10" {
		t.Errorf("the platform is %+v", p)
	}
	if i := c.Mirror.AdditionalImages; len(i) != 4 || i[0].Name != "quay.io/a/b:v1" || i[1].TargetRepo != "other/name" || i[3].Name != "quay.io/d:v1" ||
		i[1].TargetTag != "v2" || len(i[1].Platforms) != 1 || i[1].Platforms[0].String() != "linux/arm64" {
		t.Errorf("the images are %+v", i)
	}
	for _, want := range []string{"held: 4.18.2 (arm64), 4.18.10 (amd64)", "asks for more than is held, since all channels are for all architectures: 4.18.2 (amd64), 4.18.10 (arm64)",
		"asks for more than is held, since all channels are for all architectures: 4.17.2 (arm64)", "release: quay.io/openshift-release-dev/ocp-release:4.16.1-x86_64"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("%q is not in\n%s", want, text)
		}
	}
}

func TestWrite_oneReleaseOrNothing(t *testing.T) {
	for name, h := range map[string]Held{
		"nothing":     {},
		"a graph":     {Graph: true},
		"one release": {Releases: []HeldRelease{{Payload: "quay.io/openshift-release-dev/ocp-release:4.16.1-x86_64"}}},
	} {
		text := Write(h)
		c, err := Parse("held.yaml", text)
		if err != nil {
			t.Errorf("%s: %v\n%s", name, err, text)
			continue
		}
		if p := c.Mirror.Platform; p.Graph != h.Graph || p.Release != "" != (len(h.Releases) > 0) {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// A catalog that is below two paths is one; with other content it cannot be in the same image set.
func TestWrite_operators(t *testing.T) {
	held := func(target, most string) HeldOperator {
		return HeldOperator{Operator: Operator{Catalog: "quay.io/a/index:v1", TargetCatalog: target, Packages: []Package{{Name: "db", DefaultChannel: "stable",
			Channels: []PackageChannel{{Name: "1.0", MinVersion: "1.0.0", MaxVersion: most}, {Name: "stable"}}}}},
			Versions: map[string]map[string][]string{"db": {"1.0": {"1.0.0", most}}}}
	}
	whole := HeldOperator{Operator: Operator{Catalog: "quay.io/a/all:v1", TargetTag: "v2", Full: true, Platforms: []OSArch{{"linux", "arm64"}}}}
	text := Write(Held{Operators: []HeldOperator{held("b/index", "1.3.0"), held("", "1.2.0"), whole, held("", "1.1.0"), held("", "1.1.0")}})
	c, err := Parse("held.yaml", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	o := c.Mirror.Operators
	if len(o) != 3 || !o[0].Full || o[0].TargetTag != "v2" || len(o[0].Platforms) != 1 || o[2].TargetCatalog != "b/index" {
		t.Fatalf("the operators are %+v", o)
	}
	if p := o[1].Packages; len(p) != 1 || p[0].DefaultChannel != "stable" || len(p[0].Channels) != 2 || p[0].Channels[0] != (PackageChannel{Name: "1.0", MinVersion: "1.0.0", MaxVersion: "1.1.0"}) {
		t.Errorf("the packages are %+v", p)
	}
	if n := strings.Count(string(text), "catalog quay.io/a/index:v1 once more, with other content"); n != 1 || !strings.Contains(string(text), "# held: 1.0.0, 1.1.0\n") {
		t.Errorf("it is\n%s", text)
	}
}
