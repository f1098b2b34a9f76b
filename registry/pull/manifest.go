package pull

import (
	"context"
	"errors"
	"io/fs"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
)

// Manifest returns the manifest of ref, a tag or a digest. It fetches and stores one that is not stored or whose TTL is
// over. store.ErrNotFound: neither the store nor the upstream has it. Other errors: the upstream could not be asked or
// its answer not be stored.
func (p *Puller) Manifest(ctx context.Context, repo, ref string) (store.Manifest, error) {
	o, ok := p.origin(repo)
	if !ok {
		return store.Manifest{}, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	if d, err := digest.Parse(ref); err == nil {
		return p.byDigest(ctx, o, d)
	}
	return p.byTag(ctx, o, ref)
}

// byDigest serves a stored manifest without a check: a digest never changes.
func (p *Puller) byDigest(ctx context.Context, o origin, d digest.Digest) (store.Manifest, error) {
	m, err := p.store.Manifests.Get(ctx, o.repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	return ask(ctx, p, o, o.repo+"@"+d.String(), 0, func(ctx context.Context) (store.Manifest, error) {
		if m, err := p.store.Manifests.Get(ctx, o.repo, d); err == nil {
			return m, nil // stored by the call before
		}
		return p.fetchManifest(ctx, o, d.String(), p.resolvedTo(o.repo, d)...)
	})
}

func (p *Puller) byTag(ctx context.Context, o origin, tag string) (store.Manifest, error) {
	stored, err := p.store.Manifests.ByTag(ctx, o.repo, tag)
	if errors.Is(err, store.ErrNotFound) {
		fetch := func(ctx context.Context) (store.Manifest, error) {
			if m, err := p.store.Manifests.ByTag(ctx, o.repo, tag); err == nil {
				return m, nil // stored by the call before
			}
			return p.fetchManifest(ctx, o, tag, tag)
		}
		if p.isAttachment(ctx, o, tag) {
			return attached(ctx, p, o, tag, o.repo+":"+tag, fetch)
		}
		return ask(ctx, p, o, o.repo+":"+tag, 0, fetch)
	}
	if err != nil || p.withinTTL(ctx, o, tag) || p.breaker.isOpen(o.repo) {
		return stored, err
	}
	m, err := ask(ctx, p, o, o.repo+":"+tag, p.patience, func(ctx context.Context) (store.Manifest, error) {
		return p.revalidate(ctx, o, tag, stored)
	})
	return orStored(ctx, p, o, tag, m, stored, err)
}

// orStored returns the result of checking a stored tag, or what is stored if the check failed.
func orStored[T any](ctx context.Context, p *Puller, o origin, tag string, found, stored T, err error) (T, error) {
	switch {
	case err == nil:
		if p.breaker.close(o.repo) {
			p.log.Info("upstream answers again", "repository", o.repo)
		}
		return found, nil
	case ctx.Err() != nil:
		return found, ctx.Err()
	}
	p.unanswered(ctx, o, tag, err)
	return stored, nil
}

// withinTTL reports whether a tag need not be checked. A check in the future comes from a wrong clock and does not count.
func (p *Puller) withinTTL(ctx context.Context, o origin, tag string) bool {
	checked, err := p.store.Tags.Checked(ctx, o.repo, tag)
	age := p.now().Sub(checked)
	return err == nil && age >= 0 && age < o.TTL
}

// revalidate checks a stored tag. A tag that the upstream has deleted stays: clusters rely on the mirror when an upstream
// cleans up.
func (p *Puller) revalidate(ctx context.Context, o origin, tag string, stored store.Manifest) (store.Manifest, error) {
	desc, err := o.Source.Resolve(ctx, o.upstream, tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return store.Manifest{}, err
	}
	if err == nil && desc.Digest != stored.Digest {
		return p.fetchManifest(ctx, o, desc.Digest.String(), tag)
	}
	return stored, p.checked(ctx, o, tag)
}

// fetchManifest fetches ref, stores it and moves tags to it.
func (p *Puller) fetchManifest(ctx context.Context, o origin, ref string, tags ...string) (store.Manifest, error) {
	desc, body, err := o.Source.Manifest(ctx, o.upstream, ref)
	if err != nil {
		return store.Manifest{}, o.failed("manifest", ref, err)
	}
	want := desc.Digest
	if d, err := digest.Parse(ref); err == nil {
		want = d
	}
	return p.put(ctx, o, ref, body, store.PutOptions{MediaType: desc.MediaType, Digest: want, Tags: tags})
}

// put stores a manifest and moves tags to it.
func (p *Puller) put(ctx context.Context, o origin, ref string, body []byte, put store.PutOptions) (store.Manifest, error) {
	m, err := p.store.Manifests.PutPulled(ctx, o.repo, body, put)
	if err != nil {
		return store.Manifest{}, o.unstored(ref, err)
	}
	for _, tag := range put.Tags {
		if err := p.checked(ctx, o, tag); err != nil {
			return store.Manifest{}, o.unstored(ref, err)
		}
		p.forgetResolved(o.repo, tag)
	}
	return m, nil
}

// checked records the check of a tag. A tag that was deleted meanwhile has no record; the upstream's answer stays valid.
func (p *Puller) checked(ctx context.Context, o origin, tag string) error {
	err := p.store.Tags.SetChecked(ctx, o.repo, tag, p.now())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// unanswered opens the circuit breaker. Only the first failure of an outage is logged.
func (p *Puller) unanswered(ctx context.Context, o origin, tag string, err error) {
	if first := p.breaker.open(o.repo); first {
		p.log.WarnContext(ctx, "could not ask the upstream: serving what is stored", "repository", o.repo, "tag", tag, "error", err)
	}
}
