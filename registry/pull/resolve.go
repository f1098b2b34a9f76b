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

// pullTime is the longest time from the HEAD of a tag to the GET of its digest.
const pullTime = 10 * time.Minute

// Resolve returns the descriptor of ref, a tag or a digest, as Manifest does but without a fetch. containerd resolves a tag
// and then fetches its digest: that fetch moves the tag.
func (p *Puller) Resolve(ctx context.Context, repo, ref string) (ocispec.Descriptor, error) {
	o, ok := p.origin(repo)
	if !ok {
		return ocispec.Descriptor{}, &store.NotFoundError{Kind: "repository", Name: repo}
	}
	d, err := digest.Parse(ref)
	if err != nil {
		return p.resolveTag(ctx, o, ref)
	}
	m, err := p.store.Manifests.Get(ctx, repo, d)
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
	stored, err := p.store.Manifests.ByTag(ctx, o.repo, tag)
	switch {
	case errors.Is(err, store.ErrNotFound) && p.isAttachment(ctx, o, tag):
		return attached(ctx, p, o, tag, key, resolve)
	case errors.Is(err, store.ErrNotFound):
		return ask(ctx, p, o, key, 0, resolve)
	case err != nil || p.withinTTL(ctx, o, tag) || p.breaker.isOpen(o.repo):
		return stored.Descriptor(), err
	}
	desc, err := ask(ctx, p, o, key, p.patience, resolve)
	if errors.Is(err, store.ErrNotFound) { // the tag stays, see revalidate
		return stored.Descriptor(), p.checked(ctx, o, tag)
	}
	return orStored(ctx, p, o, tag, desc, stored.Descriptor(), err)
}

// askTag resolves a tag. A stored manifest gets the tag at once, another one when it is fetched.
func (p *Puller) askTag(ctx context.Context, o origin, tag string) (ocispec.Descriptor, error) {
	desc, err := o.Source.Resolve(ctx, o.upstream, tag)
	if err != nil {
		return ocispec.Descriptor{}, o.failed("manifest", tag, err)
	}
	m, err := p.store.Manifests.Get(ctx, o.repo, desc.Digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		p.resolved.put(o.repo+":"+tag, desc.Digest, pullTime, 0)
		return desc, nil
	case err != nil:
		return ocispec.Descriptor{}, &storeError{err: err}
	}
	_, err = p.put(ctx, o, tag, m.Body, store.PutOptions{MediaType: m.MediaType, Digest: m.Digest, Tags: []string{tag}})
	return m.Descriptor(), err
}

// resolvedTo lists the tags of repo that recently resolved to d.
func (p *Puller) resolvedTo(repo string, d digest.Digest) (tags []string) {
	for _, key := range p.resolved.keys(func(key string, to digest.Digest) bool { return to == d && strings.HasPrefix(key, repo+":") }) {
		tags = append(tags, strings.TrimPrefix(key, repo+":"))
	}
	return tags
}

func (p *Puller) forgetResolved(repo, tag string) { p.resolved.forget(repo + ":" + tag) }

// isAttachment reports whether tag is one that cosign, or a client without the referrers API, gives to an attachment of a
// stored manifest.
func (p *Puller) isAttachment(ctx context.Context, o origin, tag string) bool {
	name, kind, _ := strings.Cut(tag, ".")
	switch kind {
	case "", "sig", "att", "sbom":
	default:
		return false
	}
	d, err := digest.Parse(strings.Replace(name, "-", ":", 1))
	return err == nil && p.exists(ctx, o, d)
}

func (p *Puller) exists(ctx context.Context, o origin, d digest.Digest) bool {
	_, err := p.store.Manifests.Get(ctx, o.repo, d)
	return err == nil
}

// attached asks for an attachment. Nodes with a signature policy ask for the signature of each image and accept only "not
// found" as "not signed"; any other answer fails the pull, even of images without a policy. So every failure of the
// upstream becomes "not found". It is asked once for all nodes, since most images have no attachment.
func attached[T any](ctx context.Context, p *Puller, o origin, tag, key string, fn func(context.Context) (T, error)) (none T, _ error) {
	if p.isAbsent(o, tag) {
		return none, absent(tag)
	}
	found, err := ask(ctx, p, o, key, p.patience, func(ctx context.Context) (T, error) {
		if p.isAbsent(o, tag) {
			return none, absent(tag) // found by the call before
		}
		found, err := fn(ctx)
		return found, p.absentUnless(ctx, o, tag, err)
	})
	if ctx.Err() != nil {
		return none, ctx.Err()
	}
	return found, p.absentUnless(ctx, o, tag, err) // err may be the end of patience
}

func absent(tag string) error { return &store.NotFoundError{Kind: "manifest", Name: tag} }

func (p *Puller) isAbsent(o origin, tag string) bool {
	_, current, _ := p.absences.get(o.repo + ":" + tag)
	return current || p.breaker.isOpen(o.repo)
}

// absentUnless turns an error of the upstream into "not found" and caches it.
func (p *Puller) absentUnless(ctx context.Context, o origin, tag string, err error) error {
	var ours *storeError
	if err == nil || errors.As(err, &ours) || errors.Is(err, errClosed) {
		return err
	}
	if !p.isAbsent(o, tag) {
		p.absences.put(o.repo+":"+tag, struct{}{}, p.retryAfter(ctx, o, tag, err), 0)
	}
	return absent(tag)
}

// retryAfter records that an upstream did not answer a question and returns how long it is not asked again.
func (p *Puller) retryAfter(ctx context.Context, o origin, name string, err error) time.Duration {
	var answer interface {
		Refused() (status int, after time.Duration)
		Answered() bool
	}
	if errors.Is(err, store.ErrNotFound) {
		return o.TTL
	}
	if !errors.As(err, &answer) || !answer.Answered() {
		p.unanswered(ctx, o, name, err)
		return openTime
	}
	if status, _ := answer.Refused(); status != 0 && status != http.StatusTooManyRequests {
		return o.TTL
	}
	p.log.WarnContext(ctx, "upstream does not list attachments: serving what is stored", "repository", o.repo, "name", name, "error", err)
	return openTime
}
