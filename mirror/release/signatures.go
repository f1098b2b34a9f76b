package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// signaturesDirectory has the signatures of releases, each as <tag>-sha256-<hex>, as oc-mirror has
// them.
const signaturesDirectory = "signatures"

// signatures finds the signatures of the releases of one run.
type signatures struct {
	*Collector
	down error // the address of signatures did not answer
}

// verify sets the signature of a payload, or the reason that it has none. It is an error if there
// is a signature and none is valid.
func (s *signatures) verify(ctx context.Context, p *plan.Plan, payload *plan.Image) error {
	if s.Signatures == nil {
		return nil
	}
	found, err := s.find(ctx, payload.Digest)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case errors.Is(err, signature.ErrInvalid):
		return err
	case err != nil:
		payload.Unsigned = append(payload.Unsigned, err.Error())
		return nil
	}
	payload.Signature = found.Raw
	if tag := signedTag(found); tag != payload.Tag {
		p.Warnings = append(p.Warnings, fmt.Sprintf("release %s is signed as %s", payload.Release, found.Image))
	}
	return nil
}

// find returns the signature of a payload, one that exists among the documents first.
func (s *signatures) find(ctx context.Context, d digest.Digest) (*signature.Release, error) {
	kept, err := s.kept(d)
	if err == nil || s.Offline {
		return kept, err
	}
	found, fetched := s.fetch(ctx, d)
	switch {
	case fetched == nil:
		return found, s.Files.Write(fmt.Sprintf("%s/%s-%s-%s", signaturesDirectory,
			signedTag(found), d.Algorithm(), d.Encoded()), found.Raw)
	case errors.Is(err, signature.ErrInvalid):
		return nil, errors.Join(err, fetched)
	}
	return nil, fetched
}

// fetch fetches a signature, unless the address has not answered for another.
func (s *signatures) fetch(ctx context.Context, d digest.Digest) (*signature.Release, error) {
	if s.down != nil {
		return nil, s.down
	}
	found, err := s.Signatures.Fetch(ctx, d)
	if err == nil || errors.Is(err, signature.ErrNone) || errors.Is(err, signature.ErrInvalid) ||
		errors.As(err, new(*fetch.StatusError)) {
		return found, err
	}
	s.down = err // each release would wait for it with all the retries
	return nil, err
}

// kept returns a signature of a payload among the documents.
func (s *signatures) kept(d digest.Digest) (*signature.Release, error) {
	names, err := s.Files.List(signaturesDirectory)
	if err != nil {
		return nil, err
	}
	suffix := "-" + d.Algorithm().String() + "-" + d.Encoded()
	none := fmt.Errorf("%w of %s in %s", signature.ErrNone, d, signaturesDirectory)
	for _, name := range names {
		if !strings.HasSuffix(name, suffix) {
			continue
		}
		raw, err := s.Files.Read(signaturesDirectory + "/" + name)
		if err != nil {
			return nil, err
		}
		found, err := s.Signatures.Keys.Verify(raw, d)
		if err == nil {
			return found, nil
		}
		none = hint.New(fmt.Errorf("%s/%s: %w", signaturesDirectory, name, err),
			"if another key signs these releases, name it with OCP_SIGNATURE_VERIFICATION_PK=FILE")
	}
	return nil, none
}

// signedTag returns the tag by which a signature knows its release.
func signedTag(s *signature.Release) string {
	ref, err := imageset.ParseReference(s.Image)
	if err != nil || ref.Tag == "" {
		return s.Digest.Encoded()
	}
	return ref.Tag
}

// policies sets the rules that a cluster of a release has about signatures.
func (c *Collector) policies(p *plan.Plan, payload *plan.Image, found *unpacked) {
	all, unread := found.policies()
	for _, err := range unread {
		p.Warnings = append(p.Warnings, fmt.Sprintf("release %s: sigstore signatures are mirrored and not verified: %v", payload.Release, err))
	}
	if c.Policies == nil {
		c.Policies = map[string][]*signature.Policy{}
	}
	c.Policies[payload.Release] = all
}

// policies returns the rules of a payload about signatures, and the reasons for which some are not
// known.
func (u *unpacked) policies() (all []*signature.Policy, unread []error) {
	for _, name := range slices.Sorted(maps.Keys(u.files)) {
		if !isPolicy(name) {
			continue
		}
		policies, err := signature.ParsePolicies(u.files[name])
		if err != nil {
			unread = append(unread, fmt.Errorf("%s%s: %w", manifestsDirectory, name, err))
		}
		all = append(all, policies...)
	}
	return all, unread
}
