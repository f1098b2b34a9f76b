package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sync/singleflight"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// sigstoreFile has the texts that the signatures of images sign, by digest: a few hundred bytes
// each, so that a repeated run, and the other side of a gap, read none of them again.
const sigstoreFile = "sigstore/signed.json"

// sigstore verifies the signatures of images by the policies of their releases.
type sigstore struct {
	*engine
	files files

	flight singleflight.Group // one reads a text that several images need

	mu      sync.Mutex // guards the rest, and what is set of images
	texts   map[digest.Digest][]byte
	changed bool
}

// verifySigstore sets the reasons for which a cluster would refuse images of its release, and
// enforces the policy of this host.
func (e *engine) verifySigstore(ctx context.Context, p *plan.Plan, policies map[string][]*signature.Policy) error {
	s := &sigstore{engine: e, files: files{e.workspace, e.o.Documents}, texts: map[digest.Digest][]byte{}}
	if err := s.load(); err != nil {
		return err
	}
	s.verifyAll(ctx, p, policies)
	s.enforce(ctx, p)
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.save()
}

func (s *sigstore) verifyAll(ctx context.Context, p *plan.Plan, policies map[string][]*signature.Policy) {
	var g errgroup.Group
	g.SetLimit(s.o.ParallelImages)
	for _, i := range p.Images {
		for _, policy := range policies[i.Release] {
			if policy.Covers(i.Reference.Name()) {
				g.Go(func() error { s.verify(ctx, i, policy); return nil })
			}
		}
	}
	_ = g.Wait() // each image has its own reasons
}

// verify verifies each manifest of an image. A list may lack a signature: nodes ask for that of
// the member that they run.
func (s *sigstore) verify(ctx context.Context, i *plan.Image, policy *signature.Policy) {
	signatures := signaturesOf(i)
	for _, m := range i.Manifests {
		a, ok := signatures[m.Descriptor.Digest]
		if !ok {
			if !image.IsIndex(m.Descriptor.MediaType) {
				s.unsigned(i, fmt.Sprintf("manifest %s has no sigstore signature", m.Descriptor.Digest))
			}
			continue
		}
		if err := s.attachment(ctx, i, a, policy); err != nil {
			s.unsigned(i, fmt.Sprintf("sigstore signature of manifest %s: %v", m.Descriptor.Digest, err))
		}
	}
}

func (s *sigstore) unsigned(i *plan.Image, reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i.Unsigned = append(i.Unsigned, reason)
}

// signaturesOf returns the signatures of an image's manifests, as cosign attaches them.
func signaturesOf(i *plan.Image) map[digest.Digest]plan.Attachment {
	all := map[digest.Digest]plan.Attachment{}
	for _, a := range i.Attachments {
		if strings.HasSuffix(a.Tag, ".sig") {
			all[a.Subject] = a
		}
	}
	return all
}

// attachment returns nil if one signature of an attachment is valid.
func (s *sigstore) attachment(ctx context.Context, i *plan.Image, a plan.Attachment, policy *signature.Policy) error {
	all, err := s.signed(ctx, i, a)
	if err != nil {
		return err
	}
	return policy.VerifyAny(all, i.Reference.Name(), a.Subject)
}

// signed returns the signatures of an attachment.
func (s *sigstore) signed(ctx context.Context, i *plan.Image, a plan.Attachment) ([]signature.SignedText, error) {
	if len(a.Manifests) == 0 {
		return nil, nil
	}
	return signature.Texts(a.Manifests[len(a.Manifests)-1].Body, func(l ocispec.Descriptor) ([]byte, error) { return s.text(ctx, i, l) })
}

// text returns a signed text.
func (s *sigstore) text(ctx context.Context, i *plan.Image, l ocispec.Descriptor) ([]byte, error) {
	text, err, _ := s.flight.Do(l.Digest.String(), func() (any, error) {
		if text, ok := s.sources.remembered(l.Digest); ok {
			return text, nil
		}
		body, err := s.sources.Blob(ctx, i, l.Digest)
		if err != nil {
			return nil, err
		}
		defer body.Close()
		text, err := signature.ReadText(body)
		if err != nil {
			return nil, err
		}
		s.keep(l.Digest, text)
		return text, nil
	})
	if err != nil {
		return nil, err
	}
	return text.([]byte), nil
}

func (s *sigstore) keep(d digest.Digest, text []byte) {
	s.sources.remember(d, text)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.texts[d], s.changed = text, true
}

// load reads the texts that are known. One that is damaged is read from its source again.
func (s *sigstore) load() error {
	raw, err := s.files.Read(sigstoreFile)
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return err
	}
	var known map[digest.Digest][]byte
	if json.Unmarshal(raw, &known) != nil {
		return nil
	}
	for d, text := range known {
		if d.Validate() == nil && d == d.Algorithm().FromBytes(text) {
			s.texts[d] = text
			s.sources.remember(d, text)
		}
	}
	return nil
}

func (s *sigstore) save() error {
	if !s.changed {
		return nil
	}
	raw, err := json.Marshal(s.texts)
	if err != nil {
		return err
	}
	return s.workspace.Write(sigstoreFile, raw)
}
