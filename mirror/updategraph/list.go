package updategraph

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
)

// channelsKey is the metadata of a release that names its channels, separated by commas.
const channelsKey = "io.openshift.upgrades.graph.release.channels"

// Channels returns the channels that the releases of a graph are in, sorted.
func (g *Graph) Channels() []string {
	var answer struct {
		Nodes []struct{ Metadata map[string]string }
	}
	_ = json.Unmarshal(g.Raw, &answer) // it has been parsed before
	var all []string
	for _, n := range answer.Nodes {
		for channel := range strings.SplitSeq(n.Metadata[channelsKey], ",") {
			if channel = strings.TrimSpace(channel); channel != "" {
				all = append(all, channel)
			}
		}
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// Versions returns the releases of a graph, the oldest first.
func (g *Graph) Versions() []semver.Version {
	var all []semver.Version
	for _, n := range g.Nodes {
		all = append(all, n.Version)
	}
	slices.SortFunc(all, semver.Version.Compare)
	return all
}
