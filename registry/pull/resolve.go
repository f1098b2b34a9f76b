package pull

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// pullTime is how long a client may take from a HEAD of a tag to the GET of the digest that it got.
const pullTime = 10 * time.Minute

// Resolve reports what ref, a tag or a digest, stands for in repo, as Manifest does, and fetches nothing. containerd asks
// so for a tag, and fetches the digest: that fetch moves the tag.
func (p *Puller) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	o, ok := p.origin(repo)
	if !ok {
		return ocispec.Descriptor{}, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	d, err := digest.Parse(ref)
	if err != nil {
		return p.resolveTag(ctx, o, ref)
	}
	m, err := p.store.Manifest(ctx, repo, d)
	if !errors.Is(err, store.ErrNotFound) {
		return m.Descriptor(), err
	}
	return ask(ctx, p, o, "HEAD "+repo+"@"+ref, 0, func(ctx context.Context) (ocispec.Descriptor, error) {
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

func (p *Puller) resolveTag(ctx context.Context, o origin, tag string) (ocispec.Descriptor, error) {
	key := "HEAD " + o.repo + ":" + tag
	resolve := func(ctx context.Context) (ocispec.Descriptor, error) { return p.askTag(ctx, o, tag) }
	held, err := p.store.ManifestByTag(ctx, o.repo, tag)
	switch {
	case errors.Is(err, store.ErrNotFound) && p.isAttachment(ctx, o, tag):
		return attached(ctx, p, o, tag, key, resolve)
	case errors.Is(err, store.ErrNotFound):
		return ask(ctx, p, o, key, 0, resolve)
	case err != nil || p.fresh(ctx, o, tag) || p.resting(o.repo):
		return held.Descriptor(), err
	}
	desc, err := ask(ctx, p, o, key, p.patience, resolve)
	if errors.Is(err, store.ErrNotFound) { // it stays here, see revalidate
		return held.Descriptor(), p.checked(ctx, o, tag)
	}
	return orHeld(ctx, p, o, tag, desc, held.Descriptor(), err)
}

// askTag asks what a tag stands for. What is held is moved to at once, what is not with the fetch of it.
func (p *Puller) askTag(ctx context.Context, o origin, tag string) (ocispec.Descriptor, error) {
	desc, err := o.Source.Resolve(ctx, o.upstream, tag)
	if err != nil {
		return ocispec.Descriptor{}, o.failed("manifest", tag, err)
	}
	m, err := p.store.Manifest(ctx, o.repo, desc.Digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		p.resolved.put(o.repo+":"+tag, desc.Digest, pullTime, 0)
		return desc, nil
	case err != nil:
		return ocispec.Descriptor{}, &storeError{err: err}
	}
	_, err = p.keep(ctx, o, tag, m.Body, store.PutOptions{MediaType: m.MediaType, Digest: m.Digest, Tags: []string{tag}})
	return m.Descriptor(), err
}

// resolvedTo lists the tags of repo that were said to stand for d a moment ago.
func (p *Puller) resolvedTo(repo string, d digest.Digest) (tags []string) {
	for _, key := range p.resolved.keys(func(key string, to digest.Digest) bool { return to == d && strings.HasPrefix(key, repo+":") }) {
		tags = append(tags, strings.TrimPrefix(key, repo+":"))
	}
	return tags
}

func (p *Puller) forgetResolved(repo, tag string) { p.resolved.forget(repo + ":" + tag) }

// isAttachment reports whether tag is one that cosign, or a client without the referrers API, gives to what is attached
// to a manifest that is held.
func (p *Puller) isAttachment(ctx context.Context, o origin, tag string) bool {
	name, kind, _ := strings.Cut(tag, ".")
	switch kind {
	case "", "sig", "att", "sbom":
	default:
		return false
	}
	d, err := digest.Parse(strings.Replace(name, "-", ":", 1))
	return err == nil && p.holds(ctx, o, d)
}

func (p *Puller) holds(ctx context.Context, o origin, d digest.Digest) bool {
	_, err := p.store.Manifest(ctx, o.repo, d)
	return err == nil
}

// attached asks for an attachment. A node that may not pull an unsigned image asks for the signature of each, and takes
// only "not found" for "not signed": any other answer fails the pull, also of images that no policy is about. So what the
// upstream does not give, for whatever reason, is not found; and it is asked once for all nodes, since most images have
// none.
func attached[T any](ctx context.Context, p *Puller, o origin, tag, key string, fn func(context.Context) (T, error)) (none T, _ error) {
	if p.isAbsent(o, tag) {
		return none, absent(tag)
	}
	found, err := ask(ctx, p, o, key, p.patience, func(ctx context.Context) (T, error) {
		if p.isAbsent(o, tag) {
			return none, absent(tag) // it became known while this was about to ask
		}
		found, err := fn(ctx)
		return found, p.absentUnless(ctx, o, tag, err)
	})
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	return found, p.absentUnless(ctx, o, tag, err) // it may not have answered in time
}

func absent(tag string) error { return &store.NotFoundError{Kind: "manifest", Name: tag} }

func (p *Puller) isAbsent(o origin, tag string) bool {
	_, current, _ := p.absences.get(o.repo + ":" + tag)
	return current || p.resting(o.repo)
}

// absentUnless takes an error of the upstream for "not found", and remembers that.
func (p *Puller) absentUnless(ctx context.Context, o origin, tag string, err error) error {
	var ours *storeError
	if err == nil || errors.As(err, &ours) || errors.Is(err, errClosed) {
		return err
	}
	if !p.isAbsent(o, tag) {
		p.absences.put(o.repo+":"+tag, struct{}{}, p.untold(ctx, o, tag, err), 0)
	}
	return absent(tag)
}

// untold notes that an upstream has not given what it was asked for, and returns how long it is not asked again.
func (p *Puller) untold(ctx context.Context, o origin, name string, err error) time.Duration {
	var answer interface {
		Refused() (status int, after time.Duration)
		Answered() bool
	}
	if errors.Is(err, store.ErrNotFound) {
		return o.Freshness
	}
	if !errors.As(err, &answer) || !answer.Answered() {
		p.unanswered(ctx, o, name, err)
		return rest
	}
	if status, _ := answer.Refused(); status != 0 && status != http.StatusTooManyRequests {
		return o.Freshness
	}
	p.log.WarnContext(ctx, "upstream does not tell what is attached: serving what is held", "repository", o.repo, "name", name, "error", err)
	return rest
}
