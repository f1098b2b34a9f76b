package pull

import (
	"context"
	"encoding/json"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Referrers lists the upstream's referrers of subject, asked for at most once in a TTL. While the upstream does not answer
// it returns the last list, or none. Errors, for a subject that is not stored, are those of Manifest.
func (p *Puller) Referrers(ctx context.Context, repo string, subject digest.Digest) ([]ocispec.Descriptor, error) {
	o, ok := p.origin(repo)
	if !ok {
		return nil, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	key := repo + "@" + subject.String()
	known, current, ok := p.lists.get(key)
	if current || ok && p.breaker.isOpen(repo) {
		return known, nil
	}
	stored := ok || p.exists(ctx, o, subject)
	if stored && p.breaker.isOpen(repo) {
		return nil, nil
	}
	patience := p.patience
	if !stored {
		patience = 0
	}
	list, err := ask(ctx, p, o, "referrers "+key, patience, func(ctx context.Context) ([]ocispec.Descriptor, error) {
		if known, current, _ := p.lists.get(key); current {
			return known, nil // found by the call before
		}
		list, err := o.Source.Referrers(ctx, o.upstream, subject)
		if err != nil {
			return nil, o.failed("referrers of", subject.String(), err)
		}
		p.lists.put(key, list, o.TTL, sizeOf(list))
		return list, nil
	})
	switch {
	case err == nil || !stored:
		return list, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	p.lists.put(key, known, p.retryAfter(ctx, o, "referrers of "+subject.String(), err), sizeOf(known))
	return known, nil
}

// sizeOf returns about the memory of a list.
func sizeOf(list []ocispec.Descriptor) int {
	text, err := json.Marshal(list)
	if err != nil {
		return maxCachedBytes
	}
	return len(text)
}
