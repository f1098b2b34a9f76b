package pull

import (
	"context"
	"encoding/json"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// referrers is Puller.Referrers.
func (ms *manifests) referrers(ctx context.Context, o origin, subject digest.Digest) ([]ocispec.Descriptor, error) {
	key := o.repo + "@" + subject.String()
	known, current, ok := ms.lists.get(key)
	if current || ok && ms.checks.breaker.isOpen(o.repo) {
		return known, nil
	}
	stored := ok || ms.exists(ctx, o, subject)
	if stored && ms.checks.breaker.isOpen(o.repo) {
		return nil, nil
	}
	patience := ms.patience
	if !stored {
		patience = 0
	}
	list, err := ask(ctx, ms.calls, o, "referrers "+key, patience, func(ctx context.Context) ([]ocispec.Descriptor, error) {
		if known, current, _ := ms.lists.get(key); current {
			return known, nil // found by the call before
		}
		list, err := o.Source.Referrers(ctx, o.upstream, subject)
		if err != nil {
			return nil, o.failed("referrers of", subject.String(), err)
		}
		ms.lists.put(key, list, o.TTL, sizeOf(list))
		return list, nil
	})
	switch {
	case err == nil || !stored:
		return list, err
	case ctx.Err() != nil:
		return nil, ctx.Err()
	}
	ms.lists.put(key, known, ms.checks.retryAfter(ctx, o, "referrers of "+subject.String(), err), sizeOf(known))
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
