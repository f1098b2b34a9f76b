package pull

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// manifests serves and fetches manifests.
type manifests struct {
	store    *store.Store
	calls    *calls
	checks   *checks
	patience time.Duration                // limit of a client's wait for the check of a stored tag
	brief    time.Duration                // that while the upstream does not answer
	resolved *cache[digest.Digest]        // the last digest of a tag
	lists    *cache[[]ocispec.Descriptor] // referrers
	tags     *cache[[]string]             // by repository
}

// forget forgets what upstreams have answered, and which of them did not.
func (ms *manifests) forget() {
	ms.resolved.clear()
	ms.lists.clear()
	ms.tags.clear()
	ms.checks.absences.clear()
	ms.checks.breaker.forget()
}

// patienceFor returns how long a client waits for a check: an upstream that is tried again after an
// outage mostly is still down.
func (ms *manifests) patienceFor(o origin) time.Duration {
	if o.peer.isOpen() {
		return ms.brief
	}
	return ms.patience
}

// byDigest serves a stored manifest without a check: a digest never changes.
func (ms *manifests) byDigest(ctx context.Context, o origin, d digest.Digest) (store.Manifest, error) {
	m, err := ms.store.Manifests.Get(ctx, o.repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return m, o.gave(true, err)
	}
	m, err = askFor(ctx, ms.calls, o, "manifest", d.String(), o.repo+"@"+d.String(), func(ctx context.Context) (store.Manifest, error) {
		if m, err := ms.store.Manifests.Get(ctx, o.repo, d); err == nil {
			return m, nil // stored by the call before
		}
		return ms.fetch(ctx, o, d.String(), ms.resolvedTo(o.repo, d)...)
	})
	return m, o.gave(false, err)
}

func (ms *manifests) byTag(ctx context.Context, o origin, tag string) (store.Manifest, error) {
	stored, err := ms.store.Manifests.ByTag(ctx, o.repo, tag)
	if errors.Is(err, store.ErrNotFound) {
		fetch := func(ctx context.Context) (store.Manifest, error) {
			if m, err := ms.store.Manifests.ByTag(ctx, o.repo, tag); err == nil {
				return m, nil // stored by the call before
			}
			return ms.fetch(ctx, o, tag, tag)
		}
		if ms.isAttachment(ctx, o, tag) {
			m, err := attached(ctx, ms, o, tag, o.repo+":"+tag, fetch)
			return m, o.gave(false, err)
		}
		m, err := askFor(ctx, ms.calls, o, "manifest", tag, o.repo+":"+tag, fetch)
		return m, o.gave(false, err)
	}
	if err != nil || ms.checks.settled(ctx, o, tag) {
		return stored, o.gave(true, err)
	}
	m, err := ask(ctx, ms.calls, o, o.repo+":"+tag, ms.patienceFor(o), func(ctx context.Context) (store.Manifest, error) {
		return ms.revalidate(ctx, o, tag, stored)
	})
	m, err = orStored(ctx, ms.checks, o, tag, m, stored, err)
	return m, o.gave(m.Digest == stored.Digest, err)
}

// revalidate checks a stored tag. A tag that the upstream has deleted stays: clusters rely on the
// mirror when an upstream cleans up.
func (ms *manifests) revalidate(ctx context.Context, o origin, tag string,
	stored store.Manifest) (store.Manifest, error) {
	desc, err := o.Source.Resolve(ctx, o.upstream, tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return store.Manifest{}, err
	}
	if err == nil && desc.Digest != stored.Digest {
		return ms.fetch(ctx, o, tag, tag) // by tag: the answer's bytes decide over the header of a HEAD
	}
	return stored, ms.checks.checked(ctx, o, tag)
}

// fetch fetches ref, stores it and moves tags to it.
func (ms *manifests) fetch(ctx context.Context, o origin, ref string, tags ...string) (store.Manifest, error) {
	desc, body, err := o.Source.Manifest(ctx, o.upstream, ref)
	if err != nil {
		return store.Manifest{}, o.failed("manifest", ref, err)
	}
	want := desc.Digest
	if d, err := digest.Parse(ref); err == nil {
		want = d
	}
	return ms.put(ctx, o, ref, body, store.PutOptions{MediaType: desc.MediaType, Digest: want, Tags: tags})
}

// put stores a manifest and moves tags to it.
func (ms *manifests) put(ctx context.Context, o origin, ref string, body []byte,
	put store.PutOptions) (store.Manifest, error) {
	m, err := ms.store.Manifests.PutPulled(ctx, o.repo, body, put)
	if err != nil {
		return store.Manifest{}, o.unstored(ref, err)
	}
	for _, tag := range put.Tags {
		if err := ms.checks.checked(ctx, o, tag); err != nil {
			return store.Manifest{}, o.unstored(ref, err)
		}
		ms.resolved.forget(o.repo + ":" + tag)
	}
	return m, nil
}
