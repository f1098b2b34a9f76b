// Package updategraph fetches, parses and resolves the update graph of OpenShift and OKD: which releases a channel has, and
// which updates lead from one to another.
//
// Use Client.Fetch for the graph of a channel, Graph.Resolve for the releases that are wanted of it, and Across for those that
// an update from one channel to another passes.
//
// Refused: following conditional edges. Whether such an update is safe depends on the cluster that takes it, and oc-mirror
// does not follow them.
package updategraph

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/blang/semver/v4"
	"github.com/google/uuid"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
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
}

// NewHTTPClient returns a client for an update service, through the proxy of the environment.
func NewHTTPClient(verify bool) *http.Client {
	return &http.Client{Timeout: 10 * time.Minute, Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 30 * time.Second, ResponseHeaderTimeout: 2 * time.Minute,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: !verify}, // only if the user says so
	}}
}

// attempts is how often a graph is asked for while the service fails.
const attempts = 4

// Fetch fetches the graph of a channel for an architecture.
func (c *Client) Fetch(ctx context.Context, channel, arch string) (*Graph, error) {
	g, err := c.fetch(ctx, channel, arch)
	if err != nil {
		return nil, hint.New(fmt.Errorf("update graph of channel %s, architecture %s, from %s: %w", channel, arch, c.URL, err),
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
	raw, err := c.get(ctx, at.String())
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

func (c *Client) get(ctx context.Context, at string) (raw []byte, err error) {
	tries := 0
	policy := retry.Policy{Attempts: attempts, First: time.Second, MaxAfter: time.Minute, Again: again, Sleep: c.Sleep}
	err = policy.Do(ctx, func() (err error) {
		tries++
		raw, err = c.once(ctx, at)
		return err
	})
	if err != nil && tries == attempts {
		err = fmt.Errorf("%w (tried %d times)", err, attempts)
	}
	return raw, err
}

func again(err error) (bool, time.Duration) {
	var refused *statusError
	if errors.As(err, &refused) {
		return retry.Status(refused.status), refused.after
	}
	return retry.Passing(err), 0
}

func (c *Client) once(ctx context.Context, at string) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at, nil)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Accept", "application/json")
	resp, err := c.HTTP.Do(r)
	if err != nil {
		var whole *url.Error // its text repeats the address
		if errors.As(err, &whole) {
			err = whole.Err
		}
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxGraph+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("read the answer: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, &statusError{status: resp.StatusCode, says: reason(raw), after: retry.After(resp)}
	case len(raw) > maxGraph:
		return nil, fmt.Errorf("the answer has more than %d bytes", maxGraph)
	}
	return raw, nil
}

type statusError struct {
	status int
	says   string
	after  time.Duration
}

func (e *statusError) Error() string {
	return fmt.Sprintf("%d %s%s", e.status, http.StatusText(e.status), e.says)
}

// reason returns the reason in the answer of an update service that refused.
func reason(raw []byte) string {
	var answer struct{ Value string }
	if json.Unmarshal(raw, &answer) != nil || answer.Value == "" {
		return ""
	}
	return ": " + answer.Value
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
