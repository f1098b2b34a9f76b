// Package updategraph fetches, parses and resolves the update graph of OpenShift and OKD: which
// releases a channel has, and which updates lead from one to another.
//
// Use Client.Fetch for the graph of a channel, Graph.Resolve for the releases that are wanted of
// it, and Across for those that an update from one channel to another passes.
//
// Refused: following conditional edges. Whether such an update is safe depends on the cluster that
// takes it, and oc-mirror does not follow them.
package updategraph

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"time"

	"github.com/blang/semver/v4"
	"github.com/google/uuid"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
)

// The public update services.
const (
	OCP = "https://api.openshift.com/api/upgrades_info/v1/graph"
	OKD = "https://origin-release.ci.openshift.org/graph"
)

// maxGraph bounds an answer; the largest real one has some 400 KB.
const maxGraph = 64 << 20

// Graph is one channel of an update graph, for one architecture.
type Graph struct {
	Channel string
	Arch    string
	Raw     []byte // the answer, as it came
	Nodes   []Node
	Edges   [][2]int // indexes of Nodes, from and to
}

// Node is one release.
type Node struct {
	Version semver.Version
	Payload string // image reference by digest
}

// Client asks an update service.
type Client struct {
	URL   string // of its graph
	HTTP  *http.Client
	Sleep func(ctx context.Context, d time.Duration) error // between attempts; nil is a timer
	Ends  *regexp.Regexp                                   // see Range
}

// Fetch fetches the graph of a channel for an architecture.
func (c *Client) Fetch(ctx context.Context, channel, arch string) (*Graph, error) {
	g, err := c.fetch(ctx, channel, arch)
	if err != nil {
		return nil, hint.New(fmt.Errorf("update graph of channel %s, architecture %s, from %s: %w",
			channel, arch, plain.Address(c.URL), err),
			"check that this host reaches it (HTTPS_PROXY is honoured), or name another update service with UPDATE_URL_OVERRIDE")
	}
	g.Channel, g.Arch = channel, arch
	return g, nil
}

func (c *Client) fetch(ctx context.Context, channel, arch string) (*Graph, error) {
	at, err := url.Parse(c.URL)
	if err != nil {
		return nil, err
	}
	query := at.Query()
	query.Set("arch", arch)
	query.Set("channel", channel)
	query.Set("id", uuid.NewString()) // by which the service counts its clients
	at.RawQuery = query.Encode()
	raw, err := fetch.Client{HTTP: c.HTTP, Sleep: c.Sleep}.Get(ctx, at.String(), "application/json", maxGraph)
	if err != nil {
		return nil, err
	}
	return parseGraph(raw)
}

// Parse reads an answer that was kept.
func Parse(channel, arch string, raw []byte) (*Graph, error) {
	g, err := parseGraph(raw)
	if err != nil {
		return nil, fmt.Errorf("update graph of channel %s, architecture %s: %w", channel, arch, err)
	}
	g.Channel, g.Arch = channel, arch
	return g, nil
}

// parseGraph parses an answer of an update service.
func parseGraph(raw []byte) (*Graph, error) {
	var answer struct {
		Nodes []struct {
			Version semver.Version
			Payload string
		}
		Edges [][2]int
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("the answer is not an update graph: %w", err)
	}
	g := &Graph{Raw: raw, Edges: answer.Edges}
	for _, n := range answer.Nodes {
		if n.Payload == "" {
			return nil, fmt.Errorf("the answer names no payload for release %s", n.Version)
		}
		g.Nodes = append(g.Nodes, Node{Version: n.Version, Payload: n.Payload})
	}
	for _, e := range g.Edges {
		if min(e[0], e[1]) < 0 || max(e[0], e[1]) >= len(g.Nodes) {
			return nil, fmt.Errorf("the answer has an edge %v between releases that it does not have", e)
		}
	}
	return g, nil
}
