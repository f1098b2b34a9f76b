package sample_test

import (
	"bytes"
	"encoding/json"
	"net/http"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

func TestGraph(t *testing.T) {
	c := upstream(t)
	for _, arch := range []string{"amd64", "arm64", "multi"} {
		t.Run(arch, func(t *testing.T) {
			g := graph(t, c, "channel=stable-4.18&arch="+arch)
			if got := nodeVersions(g); !slices.Equal(got, []string{"4.18.1", "4.18.2", "4.18.3"}) {
				t.Fatalf("stable-4.18 has %v", got)
			}
			if want := [][2]int{{0, 1}, {0, 2}, {1, 2}}; !slices.Equal(g.Edges, want) {
				t.Errorf("edges %v, want %v", g.Edges, want)
			}
			for _, n := range g.Nodes {
				d := describe(t, n.Payload)
				if got := n.Metadata["io.openshift.upgrades.graph.release.manifestref"]; got != d.Digest.String() {
					t.Errorf("node %s refers to %s, its payload is %s", n.Version, got, d.Digest)
				}
			}
		})
	}
	t.Run("an update is either recommended or conditional", func(t *testing.T) {
		g := graph(t, c, "channel=candidate-4.18")
		if len(g.ConditionalEdges) != 1 || g.ConditionalEdges[0].Edges[0] != (sample.Edge{From: "4.18.2", To: "4.18.4"}) {
			t.Fatalf("conditional edges are %+v", g.ConditionalEdges)
		}
		if slices.Contains(g.Edges, [2]int{1, 3}) || !slices.Contains(g.Edges, [2]int{2, 3}) {
			t.Errorf("edges are %v", g.Edges)
		}
	})
	t.Run("the way between two releases with extended support", func(t *testing.T) {
		g := graph(t, c, "channel=eus-4.18")
		if want := [][2]int{{0, 1}, {1, 2}, {2, 3}}; !slices.Equal(g.Edges, want) {
			t.Errorf("edges %v, want %v", g.Edges, want)
		}
		if len(g.ConditionalEdges) != 1 || g.ConditionalEdges[0].Edges[0] != (sample.Edge{From: "4.17.2", To: "4.18.2"}) {
			t.Errorf("conditional edges are %+v", g.ConditionalEdges)
		}
	})
	t.Run("an unknown channel is empty, not an error", func(t *testing.T) {
		_, body := get(t, c, http.MethodGet, sample.GraphPath+"?channel=nothing-4.18", nil)
		if want := `{"version":1,"nodes":[],"edges":[],"conditionalEdges":[]}`; string(bytes.TrimSpace(body)) != want {
			t.Errorf("answer is %s", body)
		}
	})
	for _, query := range []string{"", "channel=A_B", "channel=stable-4.18&arch=x86_64"} {
		t.Run("refused: "+query, func(t *testing.T) {
			if resp, body := get(t, c, http.MethodGet, sample.GraphPath+"?"+query, nil); resp.StatusCode != http.StatusBadRequest {
				t.Errorf("answer is %s: %s", resp.Status, body)
			}
		})
	}
}

func graph(t *testing.T, c *sample.Content, query string) sample.Graph {
	t.Helper()
	_, body := get(t, c, http.MethodGet, sample.GraphPath+"?"+query, nil)
	var g sample.Graph
	if err := json.Unmarshal(body, &g); err != nil {
		t.Fatal(err)
	}
	return g
}

func nodeVersions(g sample.Graph) []string {
	var all []string
	for _, n := range g.Nodes {
		all = append(all, n.Version)
	}
	return all
}

func TestGraphData(t *testing.T) {
	c := upstream(t)
	_, body := get(t, c, http.MethodGet, sample.GraphDataPath, nil)
	fs := untgz(t, bytes.NewReader(body))
	for _, name := range []string{"LICENSE", "version", "raw/metadata.json"} {
		if len(fs[name]) == 0 {
			t.Errorf("%s is missing", name)
		}
	}
	var ch struct {
		Name     string
		Versions []string
	}
	if err := yaml.UnmarshalStrict(fs["channels/stable-4.18.yaml"], &ch); err != nil {
		t.Fatal(err)
	}
	if got := nodeVersions(c.Graph("stable-4.18", "amd64")); ch.Name != "stable-4.18" || !slices.Equal(ch.Versions, got) {
		t.Errorf("channel file %+v, graph %v", ch, got)
	}
	var blocked struct {
		To, From string
		sample.Risk
	}
	if err := yaml.UnmarshalStrict(fs["blocked-edges/4.18.4-SampleRisk.yaml"], &blocked); err != nil {
		t.Fatal(err)
	}
	if risk := c.Graph("candidate-4.18", "amd64").ConditionalEdges[0].Risks[0]; blocked.To != "4.18.4" || blocked.Message != risk.Message || len(blocked.MatchingRules) != 1 {
		t.Errorf("blocked edge file %+v, graph %+v", blocked, risk)
	}
}
