package graphdata_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// p is the prefix of the keys of metadata.
const p = "io.openshift.upgrades.graph."

// files returns graph data that is complete, with a channel s of all versions 4.1.0 to 4.1.9 and
// 4.2.0 to 4.2.9, and then what is given: names and texts in turn.
func files(more ...string) graphdata.Files {
	all := graphdata.Files{"version": []byte("1.1.0\n"), "raw/metadata.json": []byte("{}"), "blocked-edges/": nil}
	var list strings.Builder
	for minor := 1; minor <= 2; minor++ {
		for patch := range 10 {
			fmt.Fprintf(&list, "- 4.%d.%d\n", minor, patch)
		}
	}
	all["channels/s.yaml"] = []byte("name: s\nversions:\n" + list.String())
	for i := 0; i < len(more); i += 2 {
		all[more[i]] = []byte(more[i+1])
	}
	return all
}

func read(t *testing.T, data graphdata.Files) *graphdata.Data {
	t.Helper()
	d, err := graphdata.Read(data)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// release makes a release image of "4.1.1+amd64 <4.1.0 >4.1.2 key=value": its version, architecture,
// predecessors, successors and metadata. Its digest is that of the text.
func release(text string) graphdata.Release {
	words := strings.Fields(text)
	version, arch, _ := strings.Cut(words[0], "+")
	r := graphdata.Release{Arch: arch, Digest: digest.FromString(text)}
	r.Version = semver.MustParse(version)
	r.Payload = "quay.io/r@" + r.Digest.String()
	r.Metadata.Metadata = map[string]string{}
	for _, word := range words[1:] {
		switch key, value, _ := strings.Cut(word, "="); {
		case word[0] == '<':
			r.Previous = append(r.Previous, semver.MustParse(word[1:]))
		case word[0] == '>':
			r.Next = append(r.Next, semver.MustParse(word[1:]))
		default:
			r.Metadata.Metadata[strings.Replace(key, "P.", p, 1)] = value
		}
	}
	return r
}

func releases(texts ...string) []graphdata.Release {
	var all []graphdata.Release
	for _, text := range texts {
		all = append(all, release(text))
	}
	return all
}

// short returns an answer as "nodes | edges | conditional edges with the names of their risks".
func short(a graphdata.Answer) string {
	var nodes, edges, conditional []string
	for _, n := range a.Nodes {
		nodes = append(nodes, n.Version)
	}
	for _, e := range a.Edges {
		edges = append(edges, a.Nodes[e[0]].Version+">"+a.Nodes[e[1]].Version)
	}
	for _, c := range a.Conditional {
		var names, of []string
		for _, r := range c.Risks {
			names = append(names, r.Name)
		}
		for _, e := range c.Edges {
			of = append(of, e.From+">"+e.To)
		}
		conditional = append(conditional, strings.Join(of, ",")+":"+strings.Join(names, ","))
	}
	return strings.Join(nodes, " ") + " | " + strings.Join(edges, " ") + " | " + strings.Join(conditional, " ")
}

func expect(t *testing.T, g *graphdata.Graph, arch, want string) {
	t.Helper()
	if got := short(g.Answer("s", arch)); got != want {
		t.Errorf("%s:\ngot  %s\nwant %s", arch, got, want)
	}
}

func problems(g *graphdata.Graph) string {
	var all []string
	for _, one := range g.Problems() {
		all = append(all, one.Where+": "+one.What)
	}
	slices.Sort(all)
	return strings.Join(all, "\n")
}

func encode(t *testing.T, of any) string {
	t.Helper()
	text, err := json.Marshal(of)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}
