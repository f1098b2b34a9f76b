package pull

import (
	"context"
	"errors"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
)

// counts are what was counted of an upstream since the start, over reloads.
type counts struct {
	stale, bytes, downloads atomic.Int64
	answers, held           atomic.Int64

	mu      sync.Mutex // guards results
	results map[string]int64
}

// ended counts a request.
func (c *counts) ended(ctx context.Context, err error) {
	result := "ok"
	switch {
	case err == nil:
	case ctx.Err() != nil:
		result = "ended"
	default:
		result = kindOf(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.results[result]++
}

// gave counts an answer with a manifest or a blob, and returns err.
func (o origin) gave(held bool, err error) error {
	if err == nil {
		o.peer.counts.gave(held)
	}
	return err
}

func (c *counts) gave(held bool) {
	c.answers.Add(1)
	if held {
		c.held.Add(1)
	}
}

// Held counts an answer with a manifest or a blob of a repository that was held, so that the puller was
// not asked for it.
func (p *Puller) Held(repo string) {
	if o, err := p.origin(repo); err == nil {
		o.peer.counts.gave(true)
	}
}

// kindOf returns the kind of an upstream's failure in a word.
func kindOf(err error) string {
	var kind interface{ Kind() string }
	if errors.As(err, &kind) {
		return kind.Kind()
	}
	return "other"
}

// Stats are what was counted of an upstream since the start.
type Stats struct {
	Upstream  string           // its host
	Requests  map[string]int64 // by result: "ok", or the kind of the failure
	Bytes     int64            // of blobs that came from it
	Stale     int64            // answers with what is held, since it could not be asked
	Answers   int64            // with a manifest or a blob
	Held      int64            // of these, those with what was held
	Down      bool             // it does not answer, and is left alone
	Downloads int64            // of blobs, under way
}

// Stats returns the counts of all upstreams.
func (p *Puller) Stats() []Stats {
	var all []Stats
	known := map[string]int{}
	for _, r := range *p.routes.Load() {
		i, ok := known[r.peer.name]
		if !ok {
			i = len(all)
			known[r.peer.name] = i
			all = append(all, r.peer.counts.stats(r.peer.name))
		}
		all[i].Down = all[i].Down || r.peer.isOpen()
	}
	return all
}

// StatsOf returns the counts of the upstream of the route with a prefix.
func (p *Puller) StatsOf(prefix string) Stats {
	for _, r := range *p.routes.Load() {
		if r.Prefix == strings.Trim(prefix, "/") {
			return r.peer.counts.stats(r.peer.name)
		}
	}
	return Stats{}
}

// Down returns why an upstream, that of the route with a prefix, is left alone or is about to be tried
// again; nil: it is asked.
func (p *Puller) Down(prefix string) error {
	for _, r := range *p.routes.Load() {
		if r.Prefix == strings.Trim(prefix, "/") {
			return r.peer.trouble()
		}
	}
	return nil
}

func (c *counts) stats(name string) Stats {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Stats{Upstream: name, Requests: maps.Clone(c.results), Bytes: c.bytes.Load(), Stale: c.stale.Load(),
		Downloads: c.downloads.Load(), Answers: c.answers.Load(), Held: c.held.Load()}
}
