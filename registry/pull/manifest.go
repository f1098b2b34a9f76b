package pull

import (
	"context"
	"errors"
	"io/fs"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
)

const (
	// rest is how long the tags of a repository are served unchecked after a
	// check has failed, so that an outage costs one wait and not one a request.
	rest = 30 * time.Second
	// maxOutages bounds what is remembered of them.
	maxOutages = 1024
)

// Manifest gives what ref, a tag or a digest, stands for in repo, fetched and
// stored if it is not held or not fresh. An error that is store.ErrNotFound says
// that neither the store nor the upstream has it; others, that the upstream
// could not be asked or the answer not be stored.
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

// byDigest: what a digest stands for never changes, so what is held is served.
func (p *Puller) byDigest(ctx context.Context, o origin, d digest.Digest) (store.Manifest, error) {
	m, err := p.store.Manifest(ctx, o.repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return m, err
	}
	return ask(ctx, p, o, o.repo+"@"+d.String(), 0, func(ctx context.Context) (store.Manifest, error) {
		if m, err := p.store.Manifest(ctx, o.repo, d); err == nil {
			return m, nil // it came while this was about to ask
		}
		return p.fetchManifest(ctx, o, d.String(), p.resolvedTo(o.repo, d)...)
	})
}

func (p *Puller) byTag(ctx context.Context, o origin, tag string) (store.Manifest, error) {
	held, err := p.store.ManifestByTag(ctx, o.repo, tag)
	if errors.Is(err, store.ErrNotFound) {
		fetch := func(ctx context.Context) (store.Manifest, error) {
			if m, err := p.store.ManifestByTag(ctx, o.repo, tag); err == nil {
				return m, nil // it came while this was about to ask
			}
			return p.fetchManifest(ctx, o, tag, tag)
		}
		if p.isAttachment(ctx, o, tag) {
			return attached(ctx, p, o, tag, o.repo+":"+tag, fetch)
		}
		return ask(ctx, p, o, o.repo+":"+tag, 0, fetch)
	}
	if err != nil || p.fresh(ctx, o, tag) || p.resting(o.repo) {
		return held, err
	}
	m, err := ask(ctx, p, o, o.repo+":"+tag, p.patience, func(ctx context.Context) (store.Manifest, error) {
		return p.revalidate(ctx, o, tag, held)
	})
	return orHeld(ctx, p, o, tag, m, held, err)
}

// orHeld returns what a check of a held tag has found, or what is held if it has failed.
func orHeld[T any](ctx context.Context, p *Puller, o origin, tag string, found, held T, err error) (T, error) {
	switch {
	case err == nil:
		p.answered(o.repo)
		return found, nil
	case ctx.Err() != nil:
		return found, ctx.Err()
	}
	p.unanswered(ctx, o, tag, err)
	return held, nil
}

// fresh reports whether a tag need not be asked for. One that was checked in the future was checked by a clock that
// was wrong.
func (p *Puller) fresh(ctx context.Context, o origin, tag string) bool {
	checked, err := p.store.TagChecked(ctx, o.repo, tag)
	return err == nil && p.within(checked, o.Freshness)
}

// within reports whether less than d has passed since t, and t has.
func (p *Puller) within(t time.Time, d time.Duration) bool {
	age := p.now().Sub(t)
	return age >= 0 && age < d
}

// revalidate asks what a held tag stands for now. A tag that is gone upstream
// stays here: a mirror is what clusters rely on when an upstream tidies up.
func (p *Puller) revalidate(ctx context.Context, o origin, tag string, held store.Manifest) (store.Manifest, error) {
	desc, err := o.Source.Resolve(ctx, o.upstream, tag)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return store.Manifest{}, err
	}
	if err == nil && desc.Digest != held.Digest {
		return p.fetchManifest(ctx, o, desc.Digest.String(), tag)
	}
	return held, p.checked(ctx, o, tag)
}

// fetchManifest fetches ref, stores it and moves tags to it.
func (p *Puller) fetchManifest(ctx context.Context, o origin, ref string, tags ...string) (store.Manifest, error) {
	desc, body, err := o.Source.Manifest(ctx, o.upstream, ref)
	if err != nil {
		return store.Manifest{}, o.failed("manifest", ref, err)
	}
	want := desc.Digest
	if d, err := digest.Parse(ref); err == nil {
		want = d // whatever the source says it is
	}
	return p.keep(ctx, o, ref, body, store.PutOptions{MediaType: desc.MediaType, Digest: want, Tags: tags})
}

// keep stores a manifest and moves tags to it, which the upstream has just named.
func (p *Puller) keep(ctx context.Context, o origin, ref string, body []byte, put store.PutOptions) (store.Manifest, error) {
	m, err := p.store.PutPulledManifest(ctx, o.repo, body, put)
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

// checked notes that the upstream was asked about a tag. One that was deleted here meanwhile has nothing noted, and
// the upstream's answer is as good as it was.
func (p *Puller) checked(ctx context.Context, o origin, tag string) error {
	err := p.store.SetTagChecked(ctx, o.repo, tag, p.now())
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	return err
}

// resting says whether the upstream failed to answer for repo a moment ago.
func (p *Puller) resting(repo string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.now().Before(p.outages[repo])
}

// unanswered notes a failed check; only the first of an outage is told.
func (p *Puller) unanswered(ctx context.Context, o origin, tag string, err error) {
	p.mu.Lock()
	_, known := p.outages[o.repo]
	if len(p.outages) >= maxOutages {
		clear(p.outages)
	}
	p.outages[o.repo] = p.now().Add(rest)
	p.mu.Unlock()
	if !known {
		p.log.WarnContext(ctx, "could not ask the upstream: serving what is held", "repository", o.repo, "tag", tag, "error", err)
	}
}

func (p *Puller) answered(repo string) {
	p.mu.Lock()
	_, known := p.outages[repo]
	delete(p.outages, repo)
	p.mu.Unlock()
	if known {
		p.log.Info("upstream answers again", "repository", repo)
	}
}
