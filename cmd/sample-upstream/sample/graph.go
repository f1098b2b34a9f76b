package sample

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// A Graph is one answer of the update service.
type Graph struct {
	Version          int               `json:"version"`
	Nodes            []Node            `json:"nodes"`
	Edges            [][2]int          `json:"edges"` // from, to: indexes of Nodes
	ConditionalEdges []ConditionalEdge `json:"conditionalEdges"`
}

// A Node is a release in a Graph.
type Node struct {
	Version  string            `json:"version"`
	Payload  string            `json:"payload"`
	Metadata map[string]string `json:"metadata"`
}

// ConditionalEdge is a group of updates with the risks that they all carry.
type ConditionalEdge struct {
	Edges []Edge `json:"edges"`
	Risks []Risk `json:"risks"`
}

// An Edge is an update by version.
type Edge struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// A Risk is the reason that an update is not recommended to every cluster.
type Risk struct {
	URL           string           `json:"url"`
	Name          string           `json:"name"`
	Message       string           `json:"message"`
	MatchingRules []map[string]any `json:"matchingRules"`
}

type channel struct {
	name     string
	versions []string
}

// channels are in the order of the update service.
func channels() []channel {
	return []channel{
		{"candidate-4.18", []string{"4.18.1", "4.18.2", "4.18.3", "4.18.4"}},
		{"eus-4.16", []string{"4.16.2"}},
		{"eus-4.18", []string{"4.16.2", "4.17.2", "4.18.1", "4.18.2"}},
		{"fast-4.18", []string{"4.17.2", "4.18.1", "4.18.2", "4.18.3"}},
		{"stable-4.17", []string{"4.16.2", "4.17.2"}},
		{"stable-4.18", []string{"4.18.1", "4.18.2", "4.18.3"}},
	}
}

// A risky is the updates to a release that have a risk. from matches version+arch, as
// in the real graph data.
type risky struct {
	to, from string
	risk     Risk
}

func riskies() []risky {
	return []risky{
		{"4.18.4", `^4[.]18[.]2[+].*$`, Risk{
			URL:     "https://example.com/risks/SampleRisk",
			Name:    "SampleRisk",
			Message: "Clusters on bare metal may lose a node while they update.",
			MatchingRules: []map[string]any{{
				"type":   "PromQL",
				"promql": map[string]string{"promql": `cluster_infrastructure_provider{type="BareMetal"}`},
			}},
		}},
		{"4.18.2", `^4[.]17[.].*$`, Risk{
			URL:           "https://example.com/risks/SkippedUpdate",
			Name:          "SkippedUpdate",
			Message:       "Clusters that skip 4.18.1 may keep an old certificate.",
			MatchingRules: []map[string]any{{"type": "Always"}},
		}},
	}
}

// conditional returns the risks of an update, none if it is recommended to all.
func conditional(from, to, arch string) []Risk {
	var all []Risk
	for _, r := range riskies() {
		if r.to == to && regexp.MustCompile(r.from).MatchString(from+"+"+arch) {
			all = append(all, r.risk)
		}
	}
	return all
}

// Graph returns the update service's answer for a channel and an architecture, empty if unknown.
func (c *Content) Graph(channelName, arch string) Graph {
	g := Graph{Version: 1, Nodes: []Node{}, Edges: [][2]int{}, ConditionalEdges: []ConditionalEdge{}}
	index := map[string]int{}
	for _, r := range c.releases {
		if r.Arch == arch && slices.Contains(channelsOf(r.Version), channelName) {
			index[r.Version] = len(g.Nodes)
			g.Nodes = append(g.Nodes, node(r))
		}
	}
	for _, v := range versions() {
		to, ok := index[v.number]
		if !ok {
			continue
		}
		for _, p := range v.previous {
			from, ok := index[p]
			risks := conditional(p, v.number, arch)
			switch {
			case !ok:
			case risks != nil:
				g.ConditionalEdges = append(g.ConditionalEdges,
					ConditionalEdge{Edges: []Edge{{From: p, To: v.number}}, Risks: risks})
			default:
				g.Edges = append(g.Edges, [2]int{from, to})
			}
		}
	}
	slices.SortFunc(g.Edges, func(a, b [2]int) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	return g
}

func node(r Release) Node {
	m := map[string]string{
		"url": errata(r.Version),
		"io.openshift.upgrades.graph.release.manifestref": r.Digest.String(),
		"io.openshift.upgrades.graph.release.channels":    strings.Join(channelsOf(r.Version), ","),
	}
	if r.Arch == "multi" {
		m["release.openshift.io/architecture"] = "multi"
	}
	return Node{Version: r.Version, Payload: r.Payload, Metadata: m}
}

func channelsOf(version string) []string {
	var names []string
	for _, ch := range channels() {
		if slices.Contains(ch.versions, version) {
			names = append(names, ch.name)
		}
	}
	slices.SortStableFunc(names, func(a, b string) int { // by version, as the update service does
		_, ofA, _ := strings.Cut(a, "-")
		_, ofB, _ := strings.Cut(b, "-")
		return cmp.Compare(ofA, ofB)
	})
	return names
}

// graphData returns the archive from which an update service makes the same graph.
func (b *builder) graphData() {
	files := map[string][]byte{
		"LICENSE":           []byte("Apache-2.0\n"),
		"version":           []byte("1.1.0\n"),
		"raw/metadata.json": []byte("{}\n"),
	}
	for _, ch := range channels() {
		files["channels/"+ch.name+".yaml"] = fmt.Appendf(nil, "name: %s\nversions:\n- %s\n",
			ch.name, strings.Join(ch.versions, "\n- "))
	}
	for _, r := range riskies() {
		files["blocked-edges/"+r.to+"-"+r.risk.Name+".yaml"] = fmt.Appendf(nil,
			"to: %s\nfrom: %s\nurl: %s\nname: %s\nmessage: %s\nmatchingRules: %s\n",
			r.to, r.from, r.risk.URL, r.risk.Name, r.risk.Message, b.json(r.risk.MatchingRules)) // JSON is YAML
	}
	b.file(GraphDataPath, "application/gzip", b.tgz(files))
}
