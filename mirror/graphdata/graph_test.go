package graphdata_test

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// risk is a file of blocked-edges with a risk.
func risk(to, from, name string) string {
	return "to: " + to + "\nfrom: " + from + "\nurl: https://example.com/" + name + "\nname: " + name +
		"\nmessage: it may break\nmatchingRules: [{type: Always}]\nfixedIn: 4.9.9\n"
}

// block is one without.
func block(to, from string) string { return "to: " + to + "\nfrom: " + from + "\n" }

// TestBuild has one case for each rule of how the graph is made.
func TestBuild(t *testing.T) {
	for name, c := range map[string]struct {
		releases []string
		data     []string // files of graph data, and their texts
		amd64    string
		arm64    string // " |  | " if ""
		problem  string // a part of it
	}{
		"previous and next, of the same architecture alone": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64 <4.1.0", "4.1.2+amd64", "4.1.1+arm64 <4.1.0 >4.1.2", "4.1.2+arm64"},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.1 | ", arm64: "4.1.1 4.1.2 | 4.1.1>4.1.2 | ",
		},
		"a build in previous gives way to the architecture of the image": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64 <4.1.0+arm64"}, amd64: "4.1.0 4.1.1 | 4.1.0>4.1.1 | ",
		},
		"no image, no release, and nothing is bridged": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.1"}, amd64: "4.1.0 4.1.2 |  | ",
		},
		"twice the same": {
			releases: []string{"4.1.0+amd64 >4.1.1", "4.1.1+amd64 <4.1.0", "4.1.1+amd64 <4.1.0"}, amd64: "4.1.0 4.1.1 | 4.1.0>4.1.1 | ",
		},
		"a circle": {
			releases: []string{"4.1.0+amd64 <4.1.2", "4.1.1+amd64 <4.1.0 <4.1.1", "4.1.2+amd64 <4.1.1"},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.1 4.1.1>4.1.2 | ", problem: "4.1.0+amd64: an update from 4.1.2+amd64 would close a circle",
		},
		"a way down that closes no circle": {
			releases: []string{"4.1.0+amd64 <4.1.2", "4.1.2+amd64"}, amd64: "4.1.0 4.1.2 | 4.1.2>4.1.0 | ",
		},
		"a way up that closes a circle with one down": {
			releases: []string{"4.1.0+amd64 <4.1.2", "4.1.1+amd64 P.previous.add=4.1.0", "4.1.2+amd64 P.previous.add=4.1.1"},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.1 4.1.2>4.1.0 | ", problem: "would close a circle",
		},
		"metadata adds": {
			releases: []string{"4.1.0+amd64 P.next.add=4.1.2,4.1.9", "4.1.1+amd64 P.previous.add=4.1.0+arm64", "4.1.2+amd64"},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.1 4.1.0>4.1.2 | ",
		},
		"metadata removes, and that has the last word": {
			releases: []string{"4.1.0+amd64 P.next.remove=4.1.2", "4.1.1+amd64 <4.1.0 P.previous.remove=4.1.0", "4.1.2+amd64 <4.1.0 <4.1.1 P.previous.add=4.1.0"},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.1>4.1.2 | ",
		},
		"metadata removes all": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64 <4.1.0", "4.1.2+amd64 <4.1.0 <4.1.1 P.previous.remove=*"},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.1 | ",
		},
		"metadata removes by a pattern, which matches anywhere": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.2.0+amd64 <4.1.0 <4.1.1 P.previous.remove_regex=.1.0[+]a"},
			amd64:    "4.1.0 4.1.1 4.2.0 | 4.1.1>4.2.0 | ",
		},
		"a bad item of a list, and a bad pattern": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64 P.previous.add=,4.1.0", "4.1.2+amd64 <4.1.0 P.previous.remove_regex=("},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.1 4.1.0>4.1.2 | ", problem: `4.1.1+amd64: ` + p + `previous.add has "", which is not a version`,
		},
		"raw metadata is of each architecture, whatever its key has": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.0+arm64", "4.1.1+arm64"},
			data:     []string{"raw/metadata.json", `{"4.1.1+s390x":{"` + p + `previous.add":"4.1.0"},"x":{}}`},
			amd64:    "4.1.0 4.1.1 | 4.1.0>4.1.1 | ", arm64: "4.1.0 4.1.1 | 4.1.0>4.1.1 | ", problem: `raw/metadata.json: "x" is not a version`,
		},
		"raw metadata is appended": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.2+amd64 P.previous.add=4.1.0"},
			data:     []string{"raw/metadata.json", `{"4.1.2":{"` + p + `previous.add":"4.1.1"}}`},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.2 4.1.1>4.1.2 | ",
		},
		"two images of one version": {
			releases: []string{"4.1.0+amd64", "4.1.0+amd64 k=v"}, amd64: "4.1.0 |  | ", problem: "4.1.0+amd64: there are several images of it",
		},
		"a block": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64 <4.1.0", "4.1.2+amd64 <4.1.0 <4.1.1", "4.1.0+arm64", "4.1.2+arm64 <4.1.0"},
			data:     []string{"blocked-edges/a.yaml", block("4.1.2", "4[.]1[.]0[+].*")},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.1 4.1.1>4.1.2 | ", arm64: "4.1.0 4.1.2 |  | ",
		},
		"a block of one architecture": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0", "4.1.0+arm64", "4.1.2+arm64 <4.1.0"},
			data:     []string{"blocked-edges/a.yaml", block("4.1.2+arm64", ".*")},
			amd64:    "4.1.0 4.1.2 | 4.1.0>4.1.2 | ", arm64: "4.1.0 4.1.2 |  | ",
		},
		"a pattern that ends before the architecture": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0"},
			data:     []string{"blocked-edges/a.yaml", block("4.1.2", "^4[.]1[.]0$")},
			amd64:    "4.1.0 4.1.2 | 4.1.0>4.1.2 | ",
		},
		"two blocks of one release both hold": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.2+amd64 <4.1.0 <4.1.1"},
			data:     []string{"blocked-edges/a.yaml", block("4.1.2", "4.1.0"), "blocked-edges/b.yaml", block("4.1.2", "4.1.1")},
			amd64:    "4.1.0 4.1.1 4.1.2 |  | ",
		},
		"a block takes the place of the pattern of the image": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.2+amd64 <4.1.0 <4.1.1 P.previous.remove_regex=4.1.0"},
			data:     []string{"blocked-edges/a.yaml", block("4.1.2", "4.1.1")},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.0>4.1.2 | ",
		},
		"a risk": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.2+amd64 <4.1.0 <4.1.1", "4.1.0+arm64", "4.1.2+arm64 <4.1.0"},
			data:     []string{"blocked-edges/a.yaml", risk("4.1.2", "4[.]1[.]0[+].*", "A")},
			amd64:    "4.1.0 4.1.1 4.1.2 | 4.1.1>4.1.2 | 4.1.0>4.1.2:A", arm64: "4.1.0 4.1.2 |  | 4.1.0>4.1.2:A",
		},
		"a risk of one architecture leaves the others their updates": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0", "4.1.0+arm64", "4.1.2+arm64 <4.1.0"},
			data:     []string{"blocked-edges/a.yaml", risk("4.1.2+arm64", ".*", "A")},
			amd64:    "4.1.0 4.1.2 | 4.1.0>4.1.2 | ", arm64: "4.1.0 4.1.2 |  | 4.1.0>4.1.2:A",
		},
		"a risk makes no update": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64"}, data: []string{"blocked-edges/a.yaml", risk("4.1.2", ".*", "A")},
			amd64: "4.1.0 4.1.2 |  | ",
		},
		"groups are of equal risks": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.2+amd64", "4.1.3+amd64 <4.1.0 <4.1.1 <4.1.2"},
			data: []string{"blocked-edges/b.yaml", risk("4.1.3", "4.1.[01]", "B"), "blocked-edges/a.yaml", risk("4.1.3", ".*", "A"),
				"blocked-edges/c.yaml", risk("4.1.3", ".*", "A")},
			amd64: "4.1.0 4.1.1 4.1.2 4.1.3 |  | 4.1.0>4.1.3,4.1.1>4.1.3:A,B 4.1.2>4.1.3:A",
		},
		"blocked and risky is conditional": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0"},
			data:     []string{"blocked-edges/a.yaml", risk("4.1.2", ".*", "A"), "blocked-edges/b.yaml", block("4.1.2", ".*")},
			amd64:    "4.1.0 4.1.2 |  | 4.1.0>4.1.2:A",
		},
		"a risk does not undo the pattern of the image": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.2+amd64 <4.1.0 <4.1.1 P.previous.remove_regex=4.1.0"},
			data:     []string{"blocked-edges/a.yaml", risk("4.1.2", "4.1.1", "A")},
			amd64:    "4.1.0 4.1.1 4.1.2 |  | 4.1.1>4.1.2:A",
		},
		"a bad pattern of an image costs a risk nothing": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0 P.previous.remove_regex=("},
			data:     []string{"blocked-edges/a.yaml", risk("4.1.2", ".*", "A")},
			amd64:    "4.1.0 4.1.2 |  | 4.1.0>4.1.2:A", problem: "previous.remove_regex has no effect",
		},
		"neither a block nor a risk": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0"},
			data:     []string{"blocked-edges/a.yaml", block("4.1.2", ".*") + "url: https://example.com\n"},
			amd64:    "4.1.0 4.1.2 | 4.1.0>4.1.2 | ", problem: "blocked-edges/a.yaml: it has no effect: ",
		},
		"extensions, and directories in directories": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0"},
			data:     []string{"blocked-edges/a.yml", block("4.1.2", ".*"), "blocked-edges/b", block("4.1.2", ".*"), "blocked-edges/d.yaml/c.yaml", block("4.1.2", ".*")},
			amd64:    "4.1.0 4.1.2 | 4.1.0>4.1.2 | ",
		},
		"an extension that the reference takes": {
			releases: []string{"4.1.0+amd64", "4.1.2+amd64 <4.1.0"}, data: []string{"blocked-edges/a.yaaml", block("4.1.2", ".*")},
			amd64: "4.1.0 4.1.2 |  | ",
		},
		"a channel with a bad version": {
			releases: []string{"4.1.0+amd64"}, data: []string{"channels/s.yaml", "name: s\nversions: [4.1.0, 4.1]\n", "channels/t.yaml", "name: t\nversions: []\n"},
			amd64: " |  | ", problem: "channels/s.yaml: it has no effect: versions has 4.1, which is not a version; the whole channel s",
		},
		"a channel that lists an architecture": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64", "4.1.0+arm64", "4.1.1+arm64"},
			data:     []string{"channels/s.yaml", "name: s\nversions: [4.1.0+amd64, 4.1.1]\ntombstones: [4.1.1]\n"},
			amd64:    "4.1.0 4.1.1 |  | ", arm64: "4.1.1 |  | ",
		},
		"the name of a channel is not that of its file": {
			releases: []string{"4.1.0+amd64"}, data: []string{"channels/s.yaml", "name: other\nversions: []\n", "channels/x.yaml", "name: s\nversions: [4.1.0]\n"},
			amd64: "4.1.0 |  | ",
		},
		"a block of two documents": {
			releases: []string{"4.1.0+amd64", "4.1.1+amd64 <4.1.0"}, data: []string{"blocked-edges/a.yaml", "to: 4.1.1\nfrom: .*\n---\nto: 4.1.0\nfrom: .*\n"},
			amd64: "4.1.0 4.1.1 | 4.1.0>4.1.1 | ", problem: "blocked-edges/a.yaml: it has no effect: it has more than one YAML document",
		},
		"metadata that clusters refuse": {
			releases: []string{"4.1.0+amd64 url=%zz", "4.1.1+amd64 release.openshift.io/architecture=amd64", "4.1.2+amd64 P.release.channels=,x-1,"},
			amd64:    "4.1.2 |  | ", problem: "4.1.1+amd64: " + string(release("4.1.1+amd64 release.openshift.io/architecture=amd64").Digest) + " is left out, since clusters would refuse",
		},
		"a number where a text is wanted": {
			releases: []string{"4.1.0+amd64"}, data: []string{"channels/s.yaml", "name: 4\nversions: [4.1.0]\n", "channels/t.yaml", "name: t\nversions: []\n"},
			amd64: " |  | ", problem: "name is not there, or is not a text",
		},
	} {
		t.Run(name, func(t *testing.T) {
			g := graphdata.Build(releases(c.releases...), read(t, files(c.data...)))
			expect(t, g, "amd64", c.amd64)
			if c.arm64 == "" {
				c.arm64 = " |  | "
			}
			expect(t, g, "arm64", c.arm64)
			if found := problems(g); !strings.Contains(found, c.problem) || found != "" && c.problem == "" {
				t.Errorf("problems:\n%s\nwant %q", found, c.problem)
			}
		})
	}
}

// TestRead_riskThatClustersRefuse tells of risks that clusters do not take, and keeps them: without them the
// updates would be recommended.
func TestRead_riskThatClustersRefuse(t *testing.T) {
	const good = "to: 4.1.1\nfrom: .*\nurl: https://example.com/a\nname: R\nmessage: m\nmatchingRules:\n- type: Always\n"
	for old, bad := range map[string]string{"": "", "name: R": `name: ""`, "message: m": `message: ""`, "https://example.com/a": "a",
		"Always": "PromQL", "type: Always": "type: Always\n  promql: {promql: x}", "Always\n": "Other\n"} {
		d := read(t, files("blocked-edges/a.yaml", strings.Replace(good, old, bad, 1)))
		if told := len(d.Problems) == 1 && strings.HasPrefix(d.Problems[0].What, "no cluster takes the risk"); told != (bad != "") {
			t.Errorf("%q in the place of %q: %+v", bad, old, d.Problems)
		}
		if a := graphdata.Build(releases("4.1.0+amd64", "4.1.1+amd64 <4.1.0"), d).Answer("s", "amd64"); len(a.Edges) != 0 || len(a.Conditional) != 1 {
			t.Errorf("%q in the place of %q: %+v", bad, old, a)
		}
	}
}

// TestBuild_severalImages offers the image of a version that a run has mirrored, whatever its digest is, and
// names it as that.
func TestBuild_severalImages(t *testing.T) {
	all := releases("4.1.0+amd64", "4.1.0+amd64 a=b", "4.1.0+amd64 c=d")
	for i := range all {
		all[i].Mirrored = true
		g := graphdata.Build(all, read(t, files()))
		all[i].Mirrored = false
		if a := g.Answer("s", "amd64"); len(a.Nodes) != 1 || a.Nodes[0].Payload != all[i].Payload {
			t.Errorf("%d is mirrored, and offered is %+v", i, a.Nodes)
		}
		if told := problems(g); strings.Count(told, string(all[i].Digest)+" is offered, not ") != 2 || strings.Contains(told, "not "+string(all[i].Digest)) {
			t.Errorf("%s is offered, and told is\n%s", all[i].Digest, told)
		}
	}
}

// TestBuild_s390x has releases of 4.2 that carry the architecture in their version.
func TestBuild_s390x(t *testing.T) {
	g := graphdata.Build(releases("4.2.10-s390x+s390x", "4.2.11-s390x+s390x <4.2.10-s390x", "4.2.11-s390x+amd64 <4.2.10-s390x", "4.2.10-s390x+amd64"),
		read(t, files("channels/s.yaml", "name: s\nversions: [4.2.10-s390x, 4.2.11-s390x]\n", "blocked-edges/a.yaml", block("4.2.11-s390x", ".*"))))
	expect(t, g, "s390x", "4.2.10-s390x 4.2.11-s390x |  | ")
	expect(t, g, "amd64", "4.2.10-s390x 4.2.11-s390x | 4.2.10-s390x>4.2.11-s390x | ")
}

// TestAnswer_json compares a whole answer, byte for byte.
func TestAnswer_json(t *testing.T) {
	all := releases("4.1.0+amd64", "4.1.1+amd64 <4.1.0", "4.1.2+amd64 <4.1.0 url=https://x P.release.channels=z-own")
	all[0].Payload, all[1].Payload, all[2].Payload = "a@b", "c@d", "e@f"
	all[0].Digest, all[1].Digest, all[2].Digest = "sha256:0", "sha256:1", "sha256:2"
	d := read(t, files("channels/s10.yaml", "name: fast-4.10\nversions: [4.1.2]\n", "channels/s9.yaml", "name: stable-4.9\nversions: [4.1.2]\n",
		"channels/t9.yaml", "name: fast-4.9\nversions: [4.1.2]\n",
		"blocked-edges/a.yaml", "to: 4.1.2\nfrom: .*\nurl: https://u\nname: N\nmessage: M\nmatchingRules: [{type: PromQL, promql: {promql: up}}, {type: Always, else: 1}]\n"))
	const want = `{"version":1,"nodes":[` +
		`{"version":"4.1.0","payload":"a@b","metadata":{"io.openshift.upgrades.graph.release.channels":"s","io.openshift.upgrades.graph.release.manifestref":"sha256:0"}},` +
		`{"version":"4.1.1","payload":"c@d","metadata":{"io.openshift.upgrades.graph.release.channels":"s","io.openshift.upgrades.graph.release.manifestref":"sha256:1"}},` +
		`{"version":"4.1.2","payload":"e@f","metadata":{"io.openshift.upgrades.graph.previous.remove_regex":".*","io.openshift.upgrades.graph.release.channels":"s,fast-4.10,fast-4.9,stable-4.9,z-own","io.openshift.upgrades.graph.release.manifestref":"sha256:2","url":"https://x"}}],` +
		`"edges":[[0,1]],"conditionalEdges":[{"edges":[{"from":"4.1.0","to":"4.1.2"}],"risks":[{"url":"https://u","name":"N","message":"M","matchingRules":[{"type":"PromQL","promql":{"promql":"up"}},{"type":"Always"}]}]}]}`
	if got := encode(t, graphdata.Build(all, d).Answer("s", "amd64")); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	slices.Reverse(all)
	if got := encode(t, graphdata.Build(all, d).Answer("s", "amd64")); got != want {
		t.Errorf("in another order\n%s", got)
	}
	for channel, arch := range map[string]string{"": "amd64", "s": "aarch64", "none": "amd64"} {
		if got := encode(t, graphdata.Build(all, d).Answer(channel, arch)); got != `{"version":1,"nodes":[],"edges":[],"conditionalEdges":[]}` {
			t.Errorf("%s, %s: %s", channel, arch, got)
		}
	}
}

// TestRead_incomplete takes away what the reference cannot do without.
func TestRead_incomplete(t *testing.T) {
	for name, text := range map[string]string{
		"version": "2.0.0", "version ": "", "raw/metadata.json": "[]", "raw/metadata.json ": "{\"4.1.0\":{\"a\":1}}",
	} {
		if _, err := graphdata.Read(files(strings.TrimSpace(name), text)); err == nil {
			t.Errorf("%s with %q was taken", name, text)
		}
	}
	for _, name := range []string{"version", "raw/metadata.json", "channels/", "blocked-edges/"} {
		all := files()
		maps.DeleteFunc(all, func(file string, _ []byte) bool { return strings.HasPrefix(file, name) })
		if _, err := graphdata.Read(all); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	if _, err := graphdata.Read(files("channels/s.yaml", "name: s\nversions: [4.1]\n")); err == nil || !strings.Contains(err.Error(), "no channel in it can be used: channels/s.yaml: ") {
		t.Errorf("without a channel that can be used: %v", err)
	}
	below := graphdata.Files{}
	for name, text := range files() {
		below["cincinnati-graph-data-main/"+name] = text
	}
	delete(below, "cincinnati-graph-data-main/raw/metadata.json")
	if _, err := graphdata.Read(below.Select()); err == nil || err.Error() != "file raw/metadata.json is missing" {
		t.Errorf("without raw metadata in a directory: %v", err)
	}
	if d := read(t, files("version", "1.9.7\n")); d.Version != "1.9.7" {
		t.Errorf("the version is %s", d.Version)
	}
}

// TestParseMetadata has what makes a file of an image no release.
func TestParseMetadata(t *testing.T) {
	const good = `{"kind":"cincinnati-metadata-v0","version":"4.1.1","previous":["4.1.0"],"next":[],"metadata":{"url":"u"},"more":1}`
	m, err := graphdata.ParseMetadata([]byte(good))
	if err != nil || m.Version.String() != "4.1.1" || len(m.Previous) != 1 || m.Metadata["url"] != "u" || m.Shard() {
		t.Errorf("%+v, %v", m, err)
	}
	if m, err := graphdata.ParseMetadata([]byte(`{"kind":"cincinnati-metadata-v0","version":"4.1.1","metadata":{"release.openshift.io/architecture":"multi"}}`)); err != nil || !m.Shard() {
		t.Errorf("%+v, %v", m, err)
	}
	for old, bad := range map[string]string{
		"-v0": "-v1", `"kind"`: `"Kind"`, `"version":`: `"Version":`, `"version":"4.1.1",`: "", `"4.1.1"`: `"4.1"`, `["4.1.0"]`: "null", `"4.1.0"`: "null", `"next":[]`: `"next":["v4"]`,
		`"u"`: "1", `{"url":"u"}`: "null", `:"u"`: ":null", "}": "",
	} {
		if _, err := graphdata.ParseMetadata([]byte(strings.Replace(good, old, bad, 1))); err == nil {
			t.Errorf("%s for %s was taken", bad, old)
		}
	}
}
