package config_test

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/config"
)

func catalogsOf(t *testing.T, text string) []config.Catalog {
	t.Helper()
	c, err := config.Parse("c", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return c.Catalogs
}

func TestParse_catalogs(t *testing.T) {
	t.Run("the sample's", func(t *testing.T) {
		want := []config.Catalog{
			{Name: "views/operators:v4.20", Original: "redhat/redhat-operator-index:v4.20", Frozen: "2026-11-29", Keep: 720 * time.Hour,
				Packages: []imageset.Package{{Name: "quay-operator", Channels: []imageset.PackageChannel{{Name: "stable-3.15", MinVersion: "3.15.1"}}}}},
			{Name: "views/base:v4.20", Original: "redhat/redhat-operator-index:v4.20", ImageSet: "/var/lib/appliance/sync/base.yaml",
				Entry: "registry.redhat.io/redhat/redhat-operator-index:v4.20", Keep: 720 * time.Hour},
		}
		if got := catalogsOf(t, string(uncommentUpstream(config.Sample()))); !reflect.DeepEqual(got, want) {
			t.Errorf("got\n%+v, want\n%+v", got, want)
		}
	})
	t.Run("versions may be written as in an image set", func(t *testing.T) {
		got := catalogsOf(t, least+"catalogs:\n- {name: 'v:1', original: 'a/b:2', packages: [{name: p, minVersion: 1.10, maxVersion: 2}]}\n")
		if p := got[0].Packages[0]; p.MinVersion != "1.10" || p.MaxVersion != "2" {
			t.Errorf("got %+v", p)
		}
	})
	t.Run("what is written reads back", func(t *testing.T) {
		c := sampleConfig()
		c.Catalogs = []config.Catalog{
			{Name: "v:1", Original: "a/b@sha256:" + strings.Repeat("a", 64), Full: true, FollowDependencies: true, Keep: time.Hour},
			{Name: "v:2", Original: "a/b:1", Keep: 2 * time.Hour, Frozen: "2026-11-29T10:00:00Z", Packages: []imageset.Package{
				{Name: "p: q", MinVersion: "1.10", MaxVersion: "2", DefaultChannel: "x"},
				{Name: "r", Channels: []imageset.PackageChannel{{Name: "x", MaxVersion: "1"}, {Name: "y"}}},
				{Name: "s", Bundles: []imageset.PackageBundle{{Name: "s.v1"}}}}},
			{Name: "v:3", Original: "a/b:1", Keep: time.Hour, ImageSet: "/set.yaml", Entry: "x.io/a/b:1"},
		}
		out, err := c.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		back, err := config.Parse("c", out)
		if err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("got\n%+v, %v, want\n%+v, written as\n%s", back, err, c, out)
		}
	})
}

func TestParse_catalogsRefused(t *testing.T) {
	for name, tc := range map[string]struct{ in, want, hint string }{
		"no tag":                    {"- {name: views/a, original: 'a/b:1'}", `c:9: catalogs[0].name: "views/a" has no tag`, "views/operators:v4.20"},
		"a digest as name":          {"- {name: 'a@sha256:1', original: 'a/b:1'}", `catalogs[0].name: "a@sha256:1" has no tag`, "views/"},
		"a host":                    {"- {name: 'h.io:5000/a:1', original: 'a/b:1'}", `catalogs[0].name: "h.io:5000/a:1" is not a repository`, "without the host"},
		"a tag that is too long":    {"- {name: 'a:" + strings.Repeat("t", 125) + "', original: 'a/b:1'}", "is not a tag to which .original can be added", "views/"},
		"a tag of an original":      {"- {name: 'a:b.original', original: 'a/b:1'}", "are those of originals", "views/"},
		"no original":               {"- {name: 'a:1'}", "c:9: catalogs[0].original: missing", "original"},
		"an original without a tag": {"- {name: 'a:1', original: a/b}", `catalogs[0].original: "a/b" has no valid tag`, "redhat-operator-index"},
		"a wrong digest":            {"- {name: 'a:1', original: 'a/b@sha256:12'}", `"sha256:12" is not a digest`, "redhat-operator-index"},
		"one name twice":            {"- {name: 'a:1', original: 'a/b:1'}\n- {name: 'a:1', original: 'a/b:2'}", `c:10: catalogs[1].name: "a:1" is another view already`, "a name of its own"},
		"a view of a view":          {"- {name: 'a:1', original: 'a/b:1'}\n- {name: 'a:2', original: 'a:1'}", `c:10: catalogs[1].original: "a:1" is a view itself`, "original of that view"},
		"the repository of files":   {"- {name: 'appliance/files:v1', original: 'a/b:1'}", `c:9: catalogs[0].name: "appliance/files" has the files of media`, "views/operators:v4.20"},
		"below an upstream":         {"- {name: 'quay.io/views/a:v1', original: 'a/b:1'}\nupstreams:\n- {prefix: quay.io, url: 'https://quay.io'}", `c:9: catalogs[0].name: "quay.io/views/a:v1" is below "quay.io", which is the prefix of an upstream`, "views/operators:v4.20"},
		"two filters":               {"- {name: 'a:1', original: 'a/b:1', imageSet: /x, packages: [{name: p}]}", "c:9: catalogs[0].imageSet: the filter is inline already", "keep imageSet"},
		"an entry of nothing":       {"- {name: 'a:1', original: 'a/b:1', entry: x}", "c:9: catalogs[0].entry: there is no imageSet", "imageSet"},
		"a date that is none":       {"- {name: 'a:1', original: 'a/b:1', frozen: yesterday}", `c:9: catalogs[0].frozen: a date is wanted here, not "yesterday"`, "2026-11-29"},
		"a frozen digest":           {"- {name: 'a:1', original: 'a/b@sha256:" + strings.Repeat("a", 64) + "', frozen: 2026-11-29}", "catalogs[0].frozen: an original that is named by its digest does not change", "leave frozen out"},
		"kept for no time":          {"- {name: 'a:1', original: 'a/b:1', keep: 1s}", "catalogs[0].keep: 1s is too short", "at least 1m"},
		"an unknown key":            {"- {name: 'a:1', original: 'a/b:1', packages: [{name: p, chanels: []}]}", "catalogs[0].packages[0].chanels: unknown key", "channels"},
		"a package twice":           {"- name: 'a:1'\n  original: 'a/b:1'\n  packages:\n  - name: p\n  - name: p", `c:13: catalog "a/b:1": duplicate package entry "p"`, "merge"},
		"a bound that is none":      {"- {name: 'a:1', original: 'a/b:1', packages: [{name: p, minVersion: x}]}", "minVersion", ""},
		"full with versions":        {"- {name: 'a:1', original: 'a/b:1', full: true, packages: [{name: p, minVersion: 1.0.0}]}", `operator "p": full takes all versions`, "leave full out"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := config.Parse("c", []byte(least+"catalogs:\n"+tc.in+"\n"))
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(hint.Of(err), tc.hint) {
				t.Errorf("error %v, hint %q", err, hint.Of(err))
			}
		})
	}
}

func TestDate(t *testing.T) {
	for text, want := range map[config.Date]string{"2026-11-29": "2026-11-29T23:59:59.999999999Z", "2026-11-29T10:00:00+02:00": "2026-11-29T08:00:00Z"} {
		if got := text.Time().UTC().Format(time.RFC3339Nano); got != want {
			t.Errorf("%s is %s, want %s", text, got, want)
		}
	}
}
