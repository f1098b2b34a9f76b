package updategraph_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// graph makes a channel of versions, with edges written "4.1.0>4.1.1".
func graph(channel, versions string, edges ...string) *updategraph.Graph {
	g := &updategraph.Graph{Channel: channel, Arch: "amd64"}
	list := strings.Fields(versions)
	for _, v := range list {
		g.Nodes = append(g.Nodes, updategraph.Node{Version: semver.MustParse(v), Payload: "q.io/r@sha256:" + v})
	}
	for _, e := range edges {
		from, to, _ := strings.Cut(e, ">")
		g.Edges = append(g.Edges, [2]int{slices.Index(list, from), slices.Index(list, to)})
	}
	return g
}

func versions(nodes []updategraph.Node) string {
	var all []string
	for _, n := range nodes {
		all = append(all, n.Version.String())
	}
	return strings.Join(all, " ")
}

// Spec: oc-mirror 4.2.
func TestGraph_Resolve(t *testing.T) {
	// In the order of a service that sorts by text, with a pre-updategraph.
	g := graph("stable-4.1", "4.1.10 4.1.2 4.1.0 4.1.1 4.1.0-rc.1 4.1.3",
		"4.1.0>4.1.1", "4.1.0>4.1.2", "4.1.1>4.1.3", "4.1.2>4.1.3", "4.1.2>4.1.10", "4.1.3>4.1.10")
	for _, tc := range []struct {
		name string
		r    updategraph.Range
		want string
	}{
		{"nothing: the head, by version and not by text", updategraph.Range{}, "4.1.10"},
		{"full", updategraph.Range{Full: true}, "4.1.0-rc.1 4.1.0 4.1.1 4.1.2 4.1.3 4.1.10"},
		{"min only: to the head", updategraph.Range{Min: "4.1.2"}, "4.1.2 4.1.3 4.1.10"},
		{"max only: from the lowest", updategraph.Range{Max: "4.1.1"}, "4.1.0-rc.1 4.1.0 4.1.1"},
		{"both", updategraph.Range{Min: "4.1.1", Max: "4.1.2"}, "4.1.1 4.1.2"},
		{"bounds that are not releases", updategraph.Range{Min: "4.1.4", Max: "4.1.99"}, "4.1.10"},
		{"a pre-release is below its release", updategraph.Range{Min: "4.1.0", Max: "4.1.0"}, "4.1.0"},
		{"full with a bound", updategraph.Range{Full: true, Max: "4.1.0"}, "4.1.0-rc.1 4.1.0"},
		{"the shortest path goes over the highest", updategraph.Range{Min: "4.1.0", Max: "4.1.3", ShortestPath: true}, "4.1.0 4.1.2 4.1.3"},
		{"the shortest path to the head", updategraph.Range{Min: "4.1.1", ShortestPath: true}, "4.1.1 4.1.3 4.1.10"},
		{"the shortest path alone is the head", updategraph.Range{ShortestPath: true}, "4.1.10"},
		{"from what an earlier run began with", updategraph.Range{Start: "4.1.2"}, "4.1.2 4.1.3 4.1.10"},
		{"which is gone, along the shortest path", updategraph.Range{Start: "4.1.2-rc.1", ShortestPath: true}, "4.1.2 4.1.10"},
		{"which is above the head", updategraph.Range{Start: "4.2.0"}, "4.1.10"},
		{"which a bound goes before", updategraph.Range{Start: "4.1.0", Min: "4.1.3"}, "4.1.3 4.1.10"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			nodes, warnings, err := g.Resolve(tc.r)
			if err != nil || versions(nodes) != tc.want || len(warnings) != 0 {
				t.Errorf("%q, %v, %v; want %q", versions(nodes), warnings, err, tc.want)
			}
		})
	}
	t.Run("no path: both ends and a warning", func(t *testing.T) {
		nodes, warnings, err := g.Resolve(updategraph.Range{Min: "4.1.0-rc.1", Max: "4.1.3", ShortestPath: true})
		if err != nil || versions(nodes) != "4.1.0-rc.1 4.1.3" || len(warnings) != 1 {
			t.Errorf("%q, %q, %v", versions(nodes), warnings, err)
		}
	})
	for name, r := range map[string]updategraph.Range{
		"an empty range":       {Min: "4.1.4", Max: "4.1.9"},
		"above the head":       {Min: "4.2.0"},
		"no start of a path":   {Min: "4.1.7", Max: "4.1.10", ShortestPath: true},
		"no end of a path":     {Min: "4.1.0", Max: "4.1.7", ShortestPath: true},
		"a bound that is none": {Min: "four"},
	} {
		t.Run(name, func(t *testing.T) {
			if nodes, _, err := g.Resolve(r); err == nil {
				t.Errorf("gives %q", versions(nodes))
			}
		})
	}
}

// Spec: oc-mirror 4.3.
func TestAcross(t *testing.T) {
	graphs := map[string]*updategraph.Graph{
		"stable-4.1": graph("stable-4.1", "4.1.0 4.1.1 4.1.2", "4.1.0>4.1.1", "4.1.0>4.1.2", "4.1.1>4.1.2"),
		"stable-4.2": graph("stable-4.2", "4.1.2 4.2.0 4.2.1", "4.1.2>4.2.0", "4.1.2>4.2.1", "4.2.0>4.2.1"),
		"stable-4.3": graph("stable-4.3", "4.2.1 4.3.0 4.3.1", "4.2.1>4.3.0", "4.3.0>4.3.1"),
		"fast-4.1":   graph("fast-4.1", "4.1.1 4.1.2 4.1.3", "4.1.1>4.1.3"),
		"fast-4.3":   graph("fast-4.3", "4.3.1"),
		"nightly":    graph("nightly", "4.9.0"),
	}
	for _, tc := range []struct {
		name   string
		chosen []string // channel=version of the lowest and highest
		want   string
		warned string
	}{
		{"one channel needs nothing", []string{"stable-4.1=4.1.0"}, "", ""},
		{"two minor versions", []string{"stable-4.1=4.1.0", "stable-4.2=4.2.1"},
			"stable-4.1/4.1.0 stable-4.1/4.1.2 stable-4.2/4.1.2 stable-4.2/4.2.1", ""},
		{"a minor version between that is not listed", []string{"stable-4.3=4.3.0", "stable-4.1=4.1.1"},
			"stable-4.1/4.1.1 stable-4.1/4.1.2 stable-4.2/4.1.2 stable-4.2/4.2.1 stable-4.3/4.2.1 stable-4.3/4.3.0", ""},
		{"one channel holds both ends", []string{"stable-4.2=4.2.0", "stable-4.2=4.2.1"}, "stable-4.2/4.2.0 stable-4.2/4.2.1", ""},
		{"another prefix of the same minor version", []string{"stable-4.1=4.1.1", "fast-4.1=4.1.3"}, "fast-4.1/4.1.1 fast-4.1/4.1.3", ""},
		{"another prefix that does not have the start", []string{"stable-4.1=4.1.0", "fast-4.1=4.1.3"}, "fast-4.1/4.1.3", "No upgrade path for 4.1.0"},
		{"the goal's channel does not have the head before it", []string{"stable-4.2=4.2.0", "fast-4.3=4.3.1"}, "stable-4.2/4.2.0 stable-4.2/4.2.1 fast-4.3/4.3.1", "No upgrade path for 4.2.1"},
		{"names that say nothing", []string{"stable-4.1=4.1.0", "nightly=4.9.0"}, "", "by their names"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var chosen []updategraph.Chosen
			for _, c := range tc.chosen {
				channel, v, _ := strings.Cut(c, "=")
				chosen = append(chosen, updategraph.Chosen{Channel: channel, Nodes: []updategraph.Node{{Version: semver.MustParse(v)}}})
			}
			passed, warnings, err := updategraph.Across(t.Context(), chosen, func(_ context.Context, name string) (*updategraph.Graph, error) {
				if g := graphs[name]; g != nil {
					return g, nil
				}
				return graph(name, ""), nil
			})
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, p := range passed {
				got = append(got, p.Channel+"/"+p.Node.Version.String())
			}
			if strings.Join(got, " ") != tc.want {
				t.Errorf("passes %q, want %q", strings.Join(got, " "), tc.want)
			}
			if warned := strings.Join(warnings, "\n"); tc.warned == "" && warned != "" || !strings.Contains(warned, tc.warned) {
				t.Errorf("warns %q, want %q", warned, tc.warned)
			}
		})
	}
	t.Run("a graph that cannot be had is an error", func(t *testing.T) {
		dead := errors.New("dead")
		_, _, err := updategraph.Across(t.Context(), []updategraph.Chosen{
			{Channel: "stable-4.1", Nodes: []updategraph.Node{{Version: semver.MustParse("4.1.0")}}},
			{Channel: "stable-4.2", Nodes: []updategraph.Node{{Version: semver.MustParse("4.2.0")}}},
		}, func(context.Context, string) (*updategraph.Graph, error) { return nil, dead })
		if !errors.Is(err, dead) {
			t.Errorf("error %v", err)
		}
	})
}
