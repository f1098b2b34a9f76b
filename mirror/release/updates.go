package release

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// Updates are the releases of a channel, for one architecture, that are newer than what was mirrored.
type Updates struct {
	Channel      string `json:"channel"`
	Architecture string `json:"architecture"`
	// Mirrored is the newest release of the channel that was mirrored, "" if none was: then the updates are what the
	// image set asks for.
	Mirrored string   `json:"mirrored,omitempty"`
	Versions []Update `json:"versions"` // the oldest first
}

// Update is a release that was not mirrored.
type Update struct {
	Version string `json:"version"`
	Asked   bool   `json:"asked"` // by the image set as it is
}

// Updates returns what the channels of the image set have that is newer than what was mirrored. mirrored reports that of
// a release, such as 4.18.2-x86_64. A channel that cannot be resolved is an error, and does not stop the others.
func (c *Collector) Updates(ctx context.Context, mirrored func(release string) bool) ([]Updates, error) {
	r := &resolver{Collector: c, plan: &plan.Plan{}, graphs: map[string]*updategraph.Graph{}}
	c.Starts = map[string]string{}
	all := []Updates{}
	var errs []error
	for _, arch := range c.Config.Mirror.Platform.Architectures {
		for _, channel := range c.Config.Mirror.Platform.Channels {
			u, err := r.updates(ctx, channel, arch, mirrored)
			if err != nil {
				errs = append(errs, fmt.Errorf("channel %s, architecture %s: %w", channel.Name, arch, err))
				continue
			}
			all = append(all, u)
		}
	}
	return all, errors.Join(errs...)
}

func (r *resolver) updates(ctx context.Context, channel imageset.Channel, arch string, mirrored func(string) bool) (Updates, error) {
	u := Updates{Channel: channel.Name, Architecture: arch, Versions: []Update{}}
	asked, err := r.channel(ctx, channel, arch, "")
	if err != nil {
		return u, err
	}
	graph, err := r.graph(ctx, channel.Type, channel.Name, arch)
	if err != nil {
		return u, err
	}
	asks := func(n updategraph.Node) bool {
		return slices.ContainsFunc(asked, func(a updategraph.Node) bool { return a.Payload == n.Payload })
	}
	all := slices.SortedFunc(slices.Values(graph.Nodes), func(a, b updategraph.Node) int { return a.Version.Compare(b.Version) })
	newer := slices.Clone(all)
	for i, n := range all {
		if mirrored(name(n.Version, arch)) {
			u.Mirrored, newer = n.Version.String(), all[i+1:]
		}
	}
	for _, n := range newer {
		if u.Mirrored != "" || asks(n) {
			u.Versions = append(u.Versions, Update{n.Version.String(), asks(n)})
		}
	}
	return u, nil
}
