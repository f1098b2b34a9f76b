package mirror

import (
	"context"
	"fmt"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/release"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// versions is a range of releases, with both ends.
type versions struct{ low, high semver.Version }

// releases compares the releases that are asked for by the graph data of the registry.
func (c *offlineDrift) releases(ctx context.Context) error {
	platform, collector := c.o.Config.Mirror.Platform, c.engine.releases()
	if platform.Release != "" {
		i, err := collector.Named(platform.Release)
		if err != nil {
			return err
		}
		if c.ask(i) {
			_, err = c.compare(ctx, i)
		}
		return err
	}
	for _, arch := range platform.Architectures {
		for _, channel := range platform.Channels {
			if err := c.channel(ctx, collector, channel, arch); err != nil {
				return err
			}
		}
		if len(platform.Channels) > 1 {
			c.undecided("updates from channel to channel, "+arch, "which releases they pass is asked of the update service")
		}
	}
	return nil
}

// channel compares the releases of a channel.
func (c *offlineDrift) channel(ctx context.Context, collector *release.Collector, channel imageset.Channel, arch string) error {
	item := "channel " + channel.Name + ", " + arch
	if channel.Type == imageset.OKD {
		c.open = true
		c.undecided(item, "there is no graph data of OKD here")
		return nil
	}
	known, err := c.held.Channel(ctx, channel.Name, arch)
	if err != nil {
		return fmt.Errorf("%s: %w", item, err)
	}
	wanted, why := c.wanted(channel, known, arch)
	if why != "" {
		c.open = true
		c.undecided(item, "%s", why)
		return nil
	}
	c.widen(arch, wanted)
	for _, n := range c.passed(item, channel, known, wanted) {
		i := collector.Of(n.Version, channel.Name, arch)
		if !c.ask(i) {
			continue
		}
		was, err := tagged(ctx, c.at, i)
		if err != nil {
			return fmt.Errorf("%s: %w", c.destination(i), err)
		}
		if i.Digest = was; was == "" {
			c.drift.Missing = append(c.drift.Missing, Drifted{Type: i.Type, Origin: i.Origin, Destination: c.destination(i)})
		}
	}
	return nil
}

// wanted returns the releases of the range that is asked for, all between its ends, by the graph data. why they
// are not known.
func (c *offlineDrift) wanted(channel imageset.Channel, known HeldChannel, arch string) (nodes []updategraph.Node, why string) {
	switch {
	case known.Why != "":
		return nil, known.Why
	case len(known.Listed) == 0:
		return nil, "the graph data here does not have the channel"
	}
	g := &updategraph.Graph{Channel: channel.Name, Arch: arch}
	for _, v := range known.Listed {
		g.Nodes = append(g.Nodes, updategraph.Node{Version: v})
	}
	nodes, _, err := g.Resolve(updategraph.Range{Min: channel.MinVersion, Max: channel.MaxVersion, Full: channel.Full, Start: channel.Start, Ends: c.o.Graph.Ends})
	if err != nil {
		return nil, "by the graph data here: " + err.Error()
	}
	if last := nodes[len(nodes)-1].Version.String(); channel.MaxVersion == "" || channel.MaxVersion != last {
		c.undecided("channel "+channel.Name+", "+arch, "whether it has releases after %s, which is the last that the graph data here has of what is asked for", last)
	}
	return nodes, ""
}

// passed returns those of a range that are asked for: with shortestPath the ends, and the releases on the path
// between them, which is known only if all that could be on it are here.
func (c *offlineDrift) passed(item string, channel imageset.Channel, known HeldChannel, all []updategraph.Node) []updategraph.Node {
	if !channel.ShortestPath || len(all) < 3 {
		return all
	}
	first, last := all[0], all[len(all)-1]
	ends := []updategraph.Node{first, last}
	path, warnings, err := known.Graph.Resolve(updategraph.Range{Min: first.Version.String(), Max: last.Version.String(), ShortestPath: true})
	switch {
	case err != nil || len(warnings) > 0:
		c.undecided(item, "which releases the path from %s to %s passes: no path leads over those that are here", first.Version, last.Version)
		return ends
	case len(path) > 2 && len(known.Graph.Nodes) < len(known.Listed):
		c.undecided(item, "whether a shorter path leads from %s to %s over releases that are not here", first.Version, last.Version)
	}
	return path
}

// widen notes releases that are asked for.
func (c *offlineDrift) widen(arch string, nodes []updategraph.Node) {
	r, ok := c.ranges[arch]
	for _, n := range nodes {
		if !ok || n.Version.LT(r.low) {
			r.low = n.Version
		}
		if !ok || n.Version.GT(r.high) {
			r.high = n.Version
		}
		ok = true
	}
	c.ranges[arch] = r
}

// mayBeAsked reports whether a release, which has no place among those that are asked for, may be one all the
// same: it is between them, where a path may lead, or not all of them are known, or its tag is not a version's.
// What follows the last one that is known may be asked for unless the end is named.
func (c *offlineDrift) mayBeAsked(tag string) bool {
	platform := c.o.Config.Mirror.Platform
	if platform.Release != "" || len(platform.Channels) == 0 {
		return false
	}
	n := strings.LastIndexByte(tag, '-')
	v, err := semver.Parse(tag[:max(n, 0)])
	if c.open || err != nil {
		return true
	}
	r, ok := c.ranges[release.Architecture(tag[n+1:])]
	if !ok {
		return false
	}
	after := v.GT(r.high)
	for _, channel := range platform.Channels {
		if after && channel.MaxVersion == "" {
			return true
		}
	}
	return !after && v.GTE(r.low)
}
