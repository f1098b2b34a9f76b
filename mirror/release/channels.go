package release

import (
	"context"
	"fmt"
	"strings"

	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// resolver finds the payloads of the channels of one plan.
type resolver struct {
	*Collector
	plan     *plan.Plan
	graphs   map[string]*updategraph.Graph // each is fetched once
	payloads []*plan.Image
	warned   bool
}

// resolve adds the payloads of the channels for one architecture, and those that an update between
// two of them passes. A channel that cannot be resolved is a failure of the plan.
func (r *resolver) resolve(ctx context.Context, channels []imageset.Channel, arch string) {
	var chosen []updategraph.Chosen
	failed := false
	for i, channel := range channels {
		reason := r.Config.At(fmt.Sprintf("mirror.platform.channels[%d]", i))
		nodes, err := r.channel(ctx, channel, arch, reason)
		if err != nil {
			r.failChannel(channel.Name, arch, reason, err)
			failed = true
			continue
		}
		if channel.Type == imageset.OCP {
			chosen = append(chosen, updategraph.Chosen{Channel: channel.Name, Nodes: nodes})
		}
	}
	if failed { // which releases an update passes is not known without all of the channels
		return
	}
	passed, warnings, err := updategraph.Across(ctx, chosen,
		func(ctx context.Context, name string) (*updategraph.Graph, error) {
			return r.graph(ctx, imageset.OCP, name, arch)
		})
	r.plan.Warnings = append(r.plan.Warnings, warnings...)
	for _, p := range passed {
		if err == nil {
			err = r.add(p.Node, p.Channel, arch, "on the way from channel to channel, through "+p.Channel)
		}
	}
	if err != nil {
		r.failChannel("the update from channel to channel", arch, r.Config.At("mirror.platform.channels"), err)
	}
}

// channel adds the payloads of one channel and returns its releases.
func (r *resolver) channel(ctx context.Context, channel imageset.Channel, arch,
	reason string) ([]updategraph.Node, error) {
	graph, err := r.graph(ctx, channel.Type, channel.Name, arch)
	if err != nil {
		return nil, err
	}
	nodes, warnings, err := graph.Resolve(updategraph.Range{
		Min: channel.MinVersion, Max: channel.MaxVersion, Full: channel.Full, ShortestPath: channel.ShortestPath, Start: channel.Start,
		Ends: r.Graph.Ends,
	})
	if err != nil {
		return nil, err
	}
	r.plan.Warnings = append(r.plan.Warnings, warnings...)
	r.warnOfEUS(channel, reason)
	r.begin(channel, nodes)
	for _, n := range nodes {
		if err := r.add(n, channel.Name, arch, reason); err != nil {
			return nil, err
		}
	}
	return nodes, nil
}

// begin notes the lowest release of a channel, of all architectures.
func (r *resolver) begin(channel imageset.Channel, nodes []updategraph.Node) {
	if channel.Full {
		return
	}
	for _, n := range nodes {
		before, err := semver.Parse(r.Starts[channel.Name])
		if err != nil || n.Version.LT(before) {
			r.Starts[channel.Name] = n.Version.String()
		}
	}
}

// warnOfEUS adds a warning, once, about a channel for extended support whose range has releases of
// several minor versions: which of them an update passes is for the worker nodes to skip.
func (r *resolver) warnOfEUS(c imageset.Channel, reason string) {
	low, errLow := semver.Parse(c.MinVersion)
	high, errHigh := semver.Parse(c.MaxVersion)
	if r.warned || !strings.Contains(c.Name, "eus") || errLow != nil || errHigh != nil || high.Minor < low.Minor+2 {
		return
	}
	r.warned = true
	r.plan.Warnings = append(r.plan.Warnings,
		fmt.Sprintf("%s: %s goes over more than one minor version: which releases such an update passes, see https://access.redhat.com/labs/ocpupgradegraph/update_path", reason, c.Name))
}

// failChannel adds a channel that cannot be resolved.
func (r *resolver) failChannel(channel, arch, reason string, err error) {
	f := plan.Failed(&plan.Image{Type: plan.Release, Origin: channel, Reason: reason + ", architecture " + arch}, err)
	f.Incomplete = "releases of " + channel + ", architecture " + arch
	r.plan.Failures = append(r.plan.Failures, f)
}

// graph fetches a channel's graph and writes the answer to the workspace.
func (r *resolver) graph(ctx context.Context, of imageset.ChannelType, name, arch string) (*updategraph.Graph, error) {
	client := r.Graph
	switch {
	case of == imageset.OKD: // UPDATE_URL_OVERRIDE is about OpenShift's graph only
		client.URL = updategraph.OKD
	case client.URL == "":
		client.URL = updategraph.OCP
	}
	key := client.URL + " " + arch + " " + name
	if graph := r.graphs[key]; graph != nil {
		return graph, nil
	}
	graph, err := r.load(ctx, client, name, arch)
	if err == nil {
		r.graphs[key] = graph
	}
	return graph, err
}

// load fetches a graph and writes it down, or reads what an archive has of it.
func (r *resolver) load(ctx context.Context, client updategraph.Client, name, arch string) (*updategraph.Graph, error) {
	file := "hold-release/cincinnati-graph-data/" + arch + "-" + name + ".json"
	if r.Offline {
		raw, err := r.Files.Read(file)
		if err != nil {
			return nil, hint.New(fmt.Errorf("update graph of channel %s, architecture %s: %w", name, arch, err),
				"use the image set configuration that the archive was made with")
		}
		return updategraph.Parse(name, arch, raw)
	}
	graph, err := client.Fetch(ctx, name, arch)
	if err != nil {
		return nil, err
	}
	return graph, r.Files.Write(file, graph.Raw)
}

// add adds the payload of a release. Its tag is the vendor's.
func (r *resolver) add(n updategraph.Node, channel, arch, why string) error {
	ref, err := imageset.ParseReference(n.Payload)
	if err != nil {
		return fmt.Errorf("release %s: payload %w", n.Version, err)
	}
	payload := r.payload(n.Payload, ref, name(n.Version, arch), why)
	payload.Channel = channel
	r.payloads = append(r.payloads, payload)
	return nil
}

// Of returns the payload of a version and architecture, as far as it is known without an update graph.
func (c *Collector) Of(version semver.Version, channel, arch string) *plan.Image {
	tag := name(version, arch)
	payload := c.payload(channel+" "+tag, imageset.Reference{}, tag, "")
	payload.Channel = channel
	return payload
}

// name returns the name of a release, which is the vendor's tag.
func name(version semver.Version, arch string) string {
	version.Build = nil
	return version.String() + "-" + Machine(arch)
}

// Machine returns the name of an architecture in the tags of releases.
func Machine(arch string) string {
	switch arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return arch
}

// Architecture returns the architecture that has a name in the tags of releases.
func Architecture(machine string) string {
	switch machine {
	case "x86_64":
		return "amd64"
	case "aarch64":
		return "arm64"
	}
	return machine
}
