package mirror

import (
	"context"
	"errors"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// enforce turns images that the policy of this host does not take into failures.
func (s *sigstore) enforce(ctx context.Context, p *plan.Plan) {
	if s.o.Signatures.Trust == nil {
		return
	}
	var g errgroup.Group
	g.SetLimit(s.o.ParallelImages)
	var mu sync.Mutex // guards errs
	errs := map[*plan.Image]error{}
	for _, i := range p.Images {
		if madeHere(i) {
			continue
		}
		g.Go(func() error {
			if err := s.judge(ctx, i); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs[i] = hint.New(err, "the policy is that of --policy, or the host's policy.json; leave --secure-policy out to mirror without it")
			}
			return nil
		})
	}
	_ = g.Wait() // each image has its own error
	if ctx.Err() == nil {
		separate(p, errs)
	}
}

// judge judges the images of a list, and what is no list.
func (s *sigstore) judge(ctx context.Context, i *plan.Image) error {
	attached := signaturesOf(i)
	tag := i.Reference.Tag
	if i.Reference.Digest != "" {
		tag = ""
	}
	for _, m := range i.Manifests {
		if image.IsIndex(m.Descriptor.MediaType) {
			continue
		}
		of := signature.Image{Repository: i.Reference.Canonical(), Tag: tag, Manifest: m.Descriptor.Digest}
		err := s.o.Signatures.Trust.Judge(of, signature.Evidence{
			Sigstore: func() ([]signature.SignedText, error) {
				if l := s.o.Signatures.Lookaside; l != nil && !l.Attachments(of) {
					return nil, errors.New("registries.d has use-sigstore-attachments: false for it, so that its sigstore signatures do not count")
				}
				return s.signed(ctx, i, attached[m.Descriptor.Digest])
			},
			OpenPGP: func() ([][]byte, error) {
				if s.o.Documents != nil || s.o.Signatures.Lookaside == nil {
					return nil, errors.New("its signatures are beside its registry, which is not asked: they are verified where the archive is made")
				}
				return s.o.Signatures.Lookaside.Signatures(ctx, of)
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
