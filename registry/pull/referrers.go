package pull

import (
	"context"
	"encoding/json"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Referrers lists what the upstream of repo has that refers to subject, asked for no more often than a tag is. While the
// upstream does not answer it is what was known last, or nothing: what is held is served. The errors, of a subject that is
// not held, are those of Manifest.
func (p *Puller) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	o, ok := p.origin(repo)
	if !ok {
		return nil, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	key := repo + "@" + subject.String()
	known, current, ok := p.lists.get(key)
	if current || ok && p.resting(repo) {
		return known, nil
	}
	held := ok || p.holds(ctx, o, subject)
	if held && p.resting(repo) {
		return nil, nil
	}
	patience := p.patience
	if !held {
		patience = 0
	}
	list, err := ask(ctx, p, o, "referrers "+key, patience, func(ctx context.Context) ([]ocispec.Descriptor, error) {
		if known, current, _ := p.lists.get(key); current {
			return known, nil // it became known while this was about to ask
		}
		list, err := o.Source.Referrers(ctx, o.upstream, subject)
		if err != nil {
			return nil, o.failed("referrers of", subject.String(), err)
		}
		p.lists.put(key, list, o.Freshness, sizeOf(list))
		return list, nil
	})
	switch {
	case err == nil || !held:
		return list, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	p.lists.put(key, known, p.untold(ctx, o, "referrers of "+subject.String(), err), sizeOf(known))
	return known, nil
}

// sizeOf is about what a list takes in memory.
func sizeOf(list []ocispec.Descriptor) int {
	text, err := json.Marshal(list)
	if err != nil {
		return maxRememberedBytes
	}
	return len(text)
}
