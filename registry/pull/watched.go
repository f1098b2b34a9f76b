package pull

import (
	"context"
	"io"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A peer is the upstream of one or several routes.
type peer struct {
	circuit
	absent *cache[struct{}] // what it lacks
	counts *counts
}

// forget forgets what was seen of an upstream.
func (p *peer) forget() {
	p.reset()
	p.absent.clear()
}

// peersOf returns the registries of routes: one for those that reach the same host the same way.
func (p *Puller) peersOf(given []Route) []*peer {
	known, counted := map[[2]string]*peer{}, map[string]*counts{}
	if before := p.routes.Load(); before != nil {
		for _, r := range *before {
			counted[r.peer.name] = r.peer.counts
		}
	}
	all := make([]*peer, len(given))
	for i, r := range given {
		name := r.Host
		if name == "" {
			name = r.Prefix
		}
		key := [2]string{name, r.Via}
		if counted[name] == nil {
			counted[name] = &counts{results: map[string]int64{}}
		}
		if known[key] == nil || r.Host == "" {
			known[key] = &peer{circuit: circuit{name: name, now: p.options.Now, log: p.options.Log},
				absent: newCache[struct{}](p.options.Now), counts: counted[name]}
		}
		all[i] = known[key]
	}
	return all
}

// watched is a Source that asks its upstream only while the circuit breaker lets it.
type watched struct {
	Source
	of *peer
}

// watch sends a request about a repository, and counts it.
func watch[T any](ctx context.Context, r *peer, repo string, send func() (T, error)) (none T, _ error) {
	a, err := r.begin(repo)
	if err != nil {
		return none, err
	}
	v, err := send()
	r.end(ctx, a, err)
	r.counts.ended(ctx, err)
	return v, err
}

func (w watched) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	return watch(ctx, w.of, repo, func() (ocispec.Descriptor, error) { return w.Source.Resolve(ctx, repo, ref) })
}

func (w watched) Manifest(ctx context.Context, repo, ref string) (desc ocispec.Descriptor, _ []byte, _ error) {
	body, err := watch(ctx, w.of, repo, func() (body []byte, err error) {
		desc, body, err = w.Source.Manifest(ctx, repo, ref)
		return body, err
	})
	return desc, body, err
}

func (w watched) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	return watch(ctx, w.of, repo, func() ([]ocispec.Descriptor, error) { return w.Source.Referrers(ctx, repo, subject) })
}

func (w watched) Tags(ctx context.Context, repo string) ([]string, error) {
	return watch(ctx, w.of, repo, func() ([]string, error) { return w.Source.Tags(ctx, repo) })
}

func (w watched) Stat(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	return watch(ctx, w.of, repo, func() (int64, error) { return w.Source.Stat(ctx, repo, d) })
}

func (w watched) BlobFrom(ctx context.Context, repo string, d digest.Digest, offset int64) (
	_ io.ReadCloser, size int64, _ error) {
	body, err := watch(ctx, w.of, repo, func() (body io.ReadCloser, err error) {
		body, size, err = w.Source.BlobFrom(ctx, repo, d, offset)
		return body, err
	})
	if err != nil {
		return nil, 0, err
	}
	w.of.counts.downloads.Add(1)
	return &watchedBody{ReadCloser: body, ctx: ctx, of: w.of, last: attempt{repo: repo, answers: w.of.came()}}, size, nil
}

// watchedBody is a body whose bytes are answers: while they come, the upstream is there. It resumes
// by requests of its own, the last of which may get no answer.
type watchedBody struct {
	io.ReadCloser
	ctx  context.Context
	of   *peer
	last attempt // since the last bytes
	once sync.Once
}

func (b *watchedBody) Close() error {
	b.once.Do(func() { b.of.counts.downloads.Add(-1) })
	return b.ReadCloser.Close()
}

func (b *watchedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.of.counts.bytes.Add(int64(n))
	switch {
	case n > 0:
		b.last.answers = b.of.answer()
	case err != nil && err != io.EOF:
		b.of.end(b.ctx, &b.last, err)
	}
	return n, err
}
