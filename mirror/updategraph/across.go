package updategraph

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/blang/semver/v4"
)

// Chosen is a channel of an image set, and the releases resolved from it, in ascending order.
type Chosen struct {
	Channel string
	Nodes   []Node
}

// Passed is a release that an update between channels passes.
type Passed struct {
	Channel string
	Node    Node
}

// Across returns the releases that a cluster passes on its way from the lowest release of the
// chosen channels to the highest: from head to head, through the channels of the minor versions
// between, which need not be chosen. Where there is no path there is a warning, and the goal is
// returned all the same. fetch returns a channel's graph.
func Across(ctx context.Context, chosen []Chosen,
	fetch func(ctx context.Context, channel string) (*Graph, error)) ([]Passed, []string, error) {
	if len(chosen) < 2 {
		return nil, nil, nil
	}
	from, to := chosen[0], chosen[0]
	for _, c := range chosen[1:] {
		if c.lowest().LT(from.lowest()) {
			from = c
		}
		if c.highest().GT(to.highest()) {
			to = c
		}
	}
	w := &way{fetch: fetch, target: to.Channel, goal: to.highest()}
	if err := w.lead(ctx, from.Channel, from.lowest()); err != nil {
		return nil, nil, fmt.Errorf("error calculating cross channel upgrades: %w", err)
	}
	return w.passed, w.warnings, nil
}

func (c Chosen) lowest() semver.Version  { return c.Nodes[0].Version }
func (c Chosen) highest() semver.Version { return c.Nodes[len(c.Nodes)-1].Version }

// way is an update to one release of one channel.
type way struct {
	fetch    func(ctx context.Context, channel string) (*Graph, error)
	target   string
	goal     semver.Version
	passed   []Passed
	warnings []string
}

func (w *way) lead(ctx context.Context, source string, first semver.Version) error {
	if source == w.target {
		return w.finish(ctx, first)
	}
	from, okFrom := parseChannel(source)
	to, okTo := parseChannel(w.target)
	if !okFrom || !okTo || from.major != to.major || from.minor > to.minor {
		w.warnings = append(w.warnings, fmt.Sprintf("no update path from channel %s to %s can be found by their names, so only what each has is mirrored", source, w.target))
		return nil
	}
	at := first
	for ; from.minor < to.minor; from.minor++ {
		head, err := w.toHead(ctx, from.String(), at)
		if errors.Is(err, errAbsent) {
			return w.goalAlone(ctx, from.String(), at)
		}
		if err != nil {
			return err
		}
		at = head
	}
	return w.finish(ctx, at)
}

// errAbsent says that a channel does not have the release that a way starts at.
var errAbsent = errors.New("the channel does not have this release")

// toHead adds the releases from one to the head of a channel, and returns that head.
func (w *way) toHead(ctx context.Context, channel string, from semver.Version) (head semver.Version, err error) {
	g, err := w.fetch(ctx, channel)
	if err != nil {
		return head, err
	}
	if g.index(from) < 0 {
		return head, errAbsent
	}
	sorted := g.sorted()
	head = sorted[len(sorted)-1].Version
	return head, w.pass(g, channel, from, head)
}

// finish adds the releases from one to the goal.
func (w *way) finish(ctx context.Context, from semver.Version) error {
	g, err := w.fetch(ctx, w.target)
	if err != nil {
		return err
	}
	if g.index(from) < 0 {
		return w.goalAlone(ctx, w.target, from)
	}
	return w.pass(g, w.target, from, w.goal)
}

func (w *way) goalAlone(ctx context.Context, channel string, from semver.Version) error {
	w.warnings = append(w.warnings, fmt.Sprintf("No upgrade path for %s in target channel %s", from, channel))
	g, err := w.fetch(ctx, w.target)
	if err != nil {
		return err
	}
	return w.pass(g, w.target, w.goal, w.goal)
}

func (w *way) pass(g *Graph, channel string, from, to semver.Version) error {
	nodes, warnings, err := g.shortestPath(from, to)
	if err != nil {
		return err
	}
	w.warnings = append(w.warnings, warnings...)
	for _, n := range nodes {
		w.passed = append(w.passed, Passed{channel, n})
	}
	return nil
}

// channel is a name like stable-4.18, split.
type channel struct {
	prefix       string
	major, minor int
}

func parseChannel(name string) (channel, bool) {
	i := strings.LastIndexByte(name, '-')
	x, y, ok := strings.Cut(name[i+1:], ".")
	major, errX := strconv.Atoi(x)
	minor, errY := strconv.Atoi(y)
	if i < 0 || !ok || errX != nil || errY != nil {
		return channel{}, false
	}
	return channel{name[:i], major, minor}, true
}

func (c channel) String() string { return fmt.Sprintf("%s-%d.%d", c.prefix, c.major, c.minor) }
