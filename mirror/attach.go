package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/signature"
)

// withoutSignatures is what to do about signatures that cannot be mirrored.
const withoutSignatures = "run the same command again; --remove-signatures mirrors images without their signatures"

// maxAttachments bounds the attachments of one image.
const maxAttachments = 1000

// attach finds the attachments of all images, and verifies those that the releases have policies
// for. An image without any is not signed, which is no failure unless it is asked for.
func (e *engine) attach(ctx context.Context, p *plan.Plan, policies map[string][]*signature.Policy) error {
	remove := e.o.Signatures.Remove
	if remove {
		policies = nil // no node could check what is not mirrored
	}
	if !remove || e.o.Signatures.Trust != nil {
		if err := e.findAttachments(ctx, p); err != nil {
			return err
		}
		if err := e.verifySigstore(ctx, p, policies); err != nil {
			return err
		}
	}
	if remove {
		for _, i := range p.Images {
			i.Attachments = nil
		}
	}
	e.requireSignatures(p)
	return nil
}

// findAttachments finds the attachments of all images. Where a source answers that it failed, that is a failure beside the
// image, which could be read and is mirrored: it is not known that there are none. A connection that breaks off for them
// alone is a warning.
func (e *engine) findAttachments(ctx context.Context, p *plan.Plan) error {
	var g errgroup.Group
	g.SetLimit(e.o.ParallelImages)
	errs := make([]error, len(p.Images))
	for i, image := range p.Images {
		g.Go(func() error {
			if ctx.Err() == nil {
				image.Attachments, errs[i] = e.sources.attachments(ctx, image)
			}
			return nil
		})
	}
	_ = g.Wait() // each image has its own error
	for i, err := range errs {
		var answer interface{ Answered() bool }
		switch {
		case err == nil:
		case !errors.As(err, &answer) || !answer.Answered():
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s is mirrored without its signatures, which cannot be read: %v", p.Images[i].Origin, err))
		default:
			of := p.Images[i]
			f := plan.Failed(&plan.Image{Type: of.Type, Origin: of.Origin, Reason: of.Reason, Reference: of.Reference},
				hint.New(fmt.Errorf("it is mirrored without its signatures, which cannot be read: %w", err), withoutSignatures))
			f.Signatures = true
			p.Failures = append(p.Failures, f)
		}
	}
	return ctx.Err()
}

// attachments returns what is attached to the manifests of an image, and what is attached
// to that. The tags of cosign are asked for by name: to list the tags of a vendor's
// repository takes minutes.
func (r *reader) attachments(ctx context.Context, of *plan.Image) ([]plan.Attachment, error) {
	f := &finder{reader: r, image: of, known: map[digest.Digest]bool{}}
	var subjects []digest.Digest
	for _, m := range of.Manifests {
		f.known[m.Descriptor.Digest] = true
		subjects = append(subjects, m.Descriptor.Digest)
	}
	for len(subjects) > 0 {
		g, within := errgroup.WithContext(ctx)
		g.SetLimit(DefaultParallelLayers)
		before := len(f.found)
		for _, d := range subjects {
			g.Go(func() error { return f.referrers(within, d) })
			for _, tag := range image.AttachmentTags(d) {
				g.Go(func() error { return f.tagged(within, d, tag) })
			}
		}
		if err := g.Wait(); err != nil {
			return nil, err
		}
		subjects = nil
		for _, a := range f.found[before:] {
			if a.Tag == "" { // cosign attaches nothing to what its tags name
				subjects = append(subjects, a.Digest)
			}
		}
	}
	slices.SortFunc(f.found, plan.Attachment.Compare)
	return f.found, nil
}

// finder finds the attachments of one image.
type finder struct {
	*reader
	image *plan.Image

	mu    sync.Mutex // guards the rest
	found []plan.Attachment
	known map[digest.Digest]bool
}

// tagged adds the attachment that a tag names.
func (f *finder) tagged(ctx context.Context, subject digest.Digest, tag string) error {
	return f.add(ctx, subject, tag, tag)
}

// referrers adds the manifests whose subject is another.
func (f *finder) referrers(ctx context.Context, subject digest.Digest) error {
	source, err := f.source(f.image.Reference)
	if err != nil {
		return err
	}
	list, err := source.Referrers(ctx, subject)
	if err != nil {
		return unlessAbsent(err)
	}
	for _, desc := range list {
		if err := f.add(ctx, subject, "", desc.Digest.String()); err != nil {
			return err
		}
	}
	return nil
}

func (f *finder) add(ctx context.Context, subject digest.Digest, tag, ref string) error {
	d, manifests, err := f.walk(ctx, f.image.Reference, ref)
	if err != nil {
		return unlessAbsent(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if tag == "" && f.known[d] {
		return nil
	}
	f.known[d] = true
	f.found = append(f.found, plan.Attachment{Subject: subject, Tag: tag, Digest: d, Manifests: manifests})
	if len(f.found) > maxAttachments {
		return fmt.Errorf("more than %d signatures and other attachments belong to the image", maxAttachments)
	}
	return nil
}

// unlessAbsent returns nil for an error that says that there is no such attachment. Some registries
// answer that it is forbidden to read what does not exist, where the image itself was read.
func unlessAbsent(err error) error {
	var answer interface {
		Refused() (status int, after time.Duration)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if errors.As(err, &answer) {
		switch status, _ := answer.Refused(); status {
		case http.StatusUnauthorized, http.StatusForbidden:
			return nil
		}
	}
	return err
}
