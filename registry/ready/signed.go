package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// signed looks at the OpenPGP signature of a release, which the version operator of a cluster verifies.
func (j *judgement) signed(p *payload) {
	all := j.known.Signatures[p.Release.Digest]
	var last error
	for _, raw := range all {
		for _, keys := range j.keys {
			_, err := keys.Verify(raw, p.Release.Digest)
			if err == nil {
				j.verdict.Signatures++
				return
			}
			last = err
		}
	}
	if len(all) == 0 {
		j.refuse(api.Reason{Code: "release-unsigned", Where: p.Release.Payload, Text: "its OpenPGP signature is not here: a cluster does not update to it", Cure: p.cure,
			Hint: "mirror it again with its signature: appliance mirror, without --ignore-release-signature"})
		return
	}
	j.refuse(api.Reason{Code: "release-signature-invalid", Where: p.Release.Payload, Text: "no OpenPGP signature of it can be verified: " + last.Error(),
		Hint: "if another key than the vendor's signs these releases, name it: --release-key FILE"})
}

// demanded returns the policies of a release that are about an image.
func (p *payload) demanded(name string) (all []*signature.Policy) {
	for _, policy := range p.Policies {
		if policy.Covers(name) {
			all = append(all, policy)
		}
	}
	return all
}

// attachments verifies the signatures of an image that nodes of its release demand: of each manifest but of
// lists, as nodes ask for the signature of the image that they run.
func (j *judgement) attachments(ctx context.Context, p *payload, w wanted, at place, found *looked) error {
	policies := p.demanded(w.name)
	if len(policies) == 0 {
		return nil
	}
	for _, d := range found.manifests {
		all, err := j.texts(ctx, p, place{at.repository, d})
		if err == nil {
			for _, policy := range policies {
				if err = policy.VerifyAny(all, w.name, d); err != nil {
					break
				}
			}
		}
		reason := api.Reason{Code: "signature-invalid", Where: j.at(place{at.repository, d}), Hint: "mirror the release again, with its signatures: appliance mirror", Cure: p.cure,
			Text: fmt.Sprintf("nodes of %s refuse the image of %s: ", p, w.component)}
		switch {
		case err == nil:
			j.verdict.Signatures++
			continue
		case ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, signature.ErrNone):
			reason.Code = "signature-absent"
			reason.Text += "its sigstore signature is not here"
		default:
			reason.Text += err.Error()
		}
		j.refuse(reason)
	}
	return nil
}

// texts returns the signatures that are attached to a manifest, in the repository that has it: nodes ask no
// other.
func (j *judgement) texts(ctx context.Context, p *payload, at place) ([]signature.SignedText, error) {
	tags := image.AttachmentTags(at.digest)
	if len(tags) == 0 {
		return nil, signature.ErrNone
	}
	repo := stored.Repository{Store: j.Store, Name: at.repository}
	parsed, all, err := signedTexts(ctx, repo, tags[0])
	if err != nil {
		return nil, err
	}
	for _, r := range parsed.Required() {
		size, err := repo.Stat(ctx, r.Digest)
		if err != nil {
			return nil, err
		}
		j.blobs[r.Digest] = blob{at.repository, size, p.cure}
	}
	return all, nil
}

// signedTexts returns the signatures in an attachment.
func signedTexts(ctx context.Context, repo stored.Repository, ref string) (m image.Manifest, all []signature.SignedText, err error) {
	desc, body, err := repo.Manifest(ctx, ref)
	if err != nil {
		return m, nil, err
	}
	if desc.MediaType != ocispec.MediaTypeImageManifest {
		return m, nil, fmt.Errorf("%s is of type %s", ref, desc.MediaType)
	}
	if m, err = image.Parse(desc.MediaType, body); err != nil {
		return m, nil, err
	}
	all, err = signature.Texts(body, func(l ocispec.Descriptor) ([]byte, error) { return readText(ctx, repo, l.Digest) })
	return m, all, err
}

func readText(ctx context.Context, repo stored.Repository, d digest.Digest) ([]byte, error) {
	body, _, err := repo.Blob(ctx, d)
	if err != nil {
		return nil, err
	}
	text, err := signature.ReadText(body)
	if err == nil && d.Algorithm().FromBytes(text) != d {
		err = fmt.Errorf("the signed text %s is damaged", d)
	}
	return text, errors.Join(err, body.Close())
}
