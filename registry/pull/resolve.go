package pull

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store"
)

// pullTime is the longest time from the HEAD of a tag to the GET of its digest.
const pullTime = 10 * time.Minute

func (ms *manifests) resolveDigest(ctx context.Context, o origin, d digest.Digest) (ocispec.Descriptor, error) {
	ref := d.String()
	m, err := ms.store.Manifests.Get(ctx, o.repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return m.Descriptor(), err
	}
	return askFor(ctx, ms.calls, o, "manifest", ref, "HEAD "+o.repo+"@"+ref, func(ctx context.Context) (ocispec.Descriptor, error) {
		desc, err := o.Source.Resolve(ctx, o.upstream, ref)
		if err != nil {
			return ocispec.Descriptor{}, o.failed("manifest", ref, err)
		}
		if desc.Digest != d {
			return ocispec.Descriptor{}, o.failed("manifest", ref, &store.DigestError{Want: d, Got: desc.Digest})
		}
		return desc, nil
	})
}

func (ms *manifests) resolveTag(ctx context.Context, o origin, tag string) (ocispec.Descriptor, error) {
	key := "HEAD " + o.repo + ":" + tag
	resolve := func(ctx context.Context) (ocispec.Descriptor, error) { return ms.askTag(ctx, o, tag) }
	stored, err := ms.store.Manifests.ByTag(ctx, o.repo, tag)
	switch {
	case errors.Is(err, store.ErrNotFound) && ms.isAttachment(ctx, o, tag):
		return attached(ctx, ms, o, tag, key, resolve)
	case errors.Is(err, store.ErrNotFound):
		return askFor(ctx, ms.calls, o, "manifest", tag, key, resolve)
	case err != nil || ms.checks.settled(ctx, o, tag):
		return stored.Descriptor(), err
	}
	desc, err := ask(ctx, ms.calls, o, key, ms.patienceFor(o), resolve)
	if errors.Is(err, store.ErrNotFound) { // the tag stays, see revalidate
		return stored.Descriptor(), ms.checks.checked(ctx, o, tag)
	}
	return orStored(ctx, ms.checks, o, tag, desc, stored.Descriptor(), err)
}

// askTag resolves a tag. A stored manifest gets the tag at once, another one when it is fetched.
func (ms *manifests) askTag(ctx context.Context, o origin, tag string) (ocispec.Descriptor, error) {
	desc, err := o.Source.Resolve(ctx, o.upstream, tag)
	if err != nil {
		return ocispec.Descriptor{}, o.failed("manifest", tag, err)
	}
	m, err := ms.store.Manifests.Get(ctx, o.repo, desc.Digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		ms.resolved.put(o.repo+":"+tag, desc.Digest, pullTime, 0)
		return desc, nil
	case err != nil:
		return ocispec.Descriptor{}, &storeError{err: err}
	}
	_, err = ms.put(ctx, o, tag, m.Body, store.PutOptions{MediaType: m.MediaType, Digest: m.Digest,
		Tags: []string{tag}})
	return m.Descriptor(), err
}

// resolvedTo lists the tags of repo that recently resolved to d.
func (ms *manifests) resolvedTo(repo string, d digest.Digest) (tags []string) {
	here := func(key string, to digest.Digest) bool { return to == d && strings.HasPrefix(key, repo+":") }
	for _, key := range ms.resolved.keys(here) {
		tags = append(tags, strings.TrimPrefix(key, repo+":"))
	}
	return tags
}

// isAttachment reports whether tag is one that cosign, or a client without the referrers API, gives
// to an attachment of a stored manifest.
func (ms *manifests) isAttachment(ctx context.Context, o origin, tag string) bool {
	d, is := image.AttachmentOf(tag)
	return is && ms.exists(ctx, o, d)
}

func (ms *manifests) exists(ctx context.Context, o origin, d digest.Digest) bool {
	_, err := ms.store.Manifests.Get(ctx, o.repo, d)
	return err == nil
}

// attached asks for an attachment, once for all nodes. Nodes with a signature policy accept only
// "not found" as "not signed"; any other answer fails the pull, even of images without a policy. So
// every failure of the upstream becomes "not found".
func attached[T any](ctx context.Context, ms *manifests, o origin, tag, key string,
	fn func(context.Context) (T, error)) (none T, _ error) {
	if ms.checks.isAbsent(o, tag) {
		return none, absent(tag)
	}
	found, err := ask(ctx, ms.calls, o, key, ms.patienceFor(o), func(ctx context.Context) (T, error) {
		if ms.checks.isAbsent(o, tag) {
			return none, absent(tag) // found by the call before
		}
		found, err := fn(ctx)
		return found, ms.checks.absentUnless(ctx, o, tag, err)
	})
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	return found, ms.checks.absentUnless(ctx, o, tag, err) // err may be the end of patience
}

// referrers is Puller.Referrers.
func (ms *manifests) referrers(ctx context.Context, o origin, subject digest.Digest) ([]ocispec.Descriptor, error) {
	key := o.repo + "@" + subject.String()
	known, current, ok := ms.lists.get(key)
	if current {
		return known, nil
	}
	stored := ok || ms.exists(ctx, o, subject)
	if stored && ms.checks.spares(o) {
		ms.checks.stale(ctx, o)
		return known, nil
	}
	patience := ms.patienceFor(o)
	if !stored {
		patience = 0
	}
	list, err := ask(ctx, ms.calls, o, "referrers "+key, patience,
		func(ctx context.Context) ([]ocispec.Descriptor, error) {
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
	if !o.held || o.cut {
		ms.checks.stale(ctx, o)
	}
	return known, nil
}

// errSpared is the error of a list that is not asked for while the circuit breaker is open.
var errSpared = errors.New("the upstream did not answer lately")

// tagList is Puller.Tags.
func (ms *manifests) tagList(ctx context.Context, o origin, held bool) ([]string, error) {
	known, current, ok := ms.tags.get(o.repo)
	if current {
		return known, nil
	}
	if err := o.lacks("tags of", o.repo); err != nil {
		return nil, err
	}
	patience := ms.patienceFor(o)
	switch {
	case !held && !ok:
		patience = 0
	case ms.checks.spares(o):
		return nil, errSpared
	}
	return ask(ctx, ms.calls, o, "tags "+o.repo, patience, func(ctx context.Context) ([]string, error) {
		list, err := o.Source.Tags(ctx, o.upstream)
		if err != nil {
			return nil, o.failed("tags of", o.repo, err)
		}
		bytes := 0
		for _, tag := range list {
			bytes += len(tag) + len("  ")
		}
		ms.tags.put(o.repo, list, o.TTL, bytes)
		return list, nil
	})
}

// sizeOf returns about the memory of a list.
func sizeOf(list []ocispec.Descriptor) int {
	text, err := json.Marshal(list)
	if err != nil {
		return maxCachedBytes
	}
	return len(text)
}
