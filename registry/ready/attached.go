package ready

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// Verify judges the signatures of an image as clusters would: OpenPGP signatures of releases by the
// vendor's keys, sigstore signatures by the policies of the releases that are here. It adds the OpenPGP
// signatures, which runs have recorded.
func (o *Judge) Verify(ctx context.Context, found *api.ImageSignatures) error {
	keys, err := newKeys(nil)
	if err != nil {
		return err
	}
	attached := found.Signatures
	found.Signatures = o.openPGP(found, keys)
	if len(attached) == 0 {
		return nil
	}
	v := &verifier{Judge: o, found: found, repo: stored.Repository{Store: o.Store, Name: found.Repository}}
	for _, origin := range found.Origins {
		if ref, err := imageset.ParseReference(origin); err == nil && !slices.Contains(v.names, ref.Name()) {
			v.names = append(v.names, ref.Name())
		}
	}
	all, late := o.demanded(ctx)
	v.demands = all
	if late {
		found.Unread = "there was no time to read the policies of all releases; try again in a moment"
	}
	for _, d := range all {
		if d.unread != nil && found.Unread == "" {
			found.Unread = fmt.Sprintf("the policies of release %s cannot be read: %v", d.release.Version, d.unread)
		}
	}
	for _, s := range attached {
		if err := v.attachment(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// openPGP returns the OpenPGP signatures of a release, each verified.
func (o *Judge) openPGP(found *api.ImageSignatures, keys []*signature.Keyring) []api.ImageSignature {
	all := []api.ImageSignature{}
	known := o.Updates.Known().Signatures
	for _, m := range found.Manifests {
		for _, raw := range known[m.Digest] {
			s := api.ImageSignature{SignedManifest: m, Form: api.SignatureOpenPGP, Result: api.SignatureInvalid}
			var foreign *signature.ForeignKeyError
			for _, k := range keys {
				switch r, err := k.Verify(raw, m.Digest); {
				case err == nil:
					s.Result, s.By, s.Reason = api.SignatureValid, r.Signer, ""
				case errors.As(err, &foreign):
					s.Result, s.Reason = api.SignatureUnknown, fmt.Sprintf("it is by key %016X, which is not one of the vendor's: the run that mirrored it may have been given that key", foreign.ID)
				default:
					s.Reason = err.Error()
				}
			}
			all = append(all, s)
		}
	}
	return all
}

// verifier verifies what is attached to an image.
type verifier struct {
	*Judge
	found   *api.ImageSignatures
	repo    stored.Repository
	names   []string // of the repositories that the image is a mirror of
	demands []demand
}

// attachment adds the signatures of an attachment, each with its result.
func (v *verifier) attachment(ctx context.Context, s api.ImageSignature) error {
	_, texts, err := signedTexts(ctx, v.repo, s.In.String())
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		s.Form, s.Result, s.Reason = api.SignatureSigstore, api.SignatureInvalid, "it cannot be read: "+err.Error()
	case len(texts) == 0:
		s.Result, s.Reason = api.SignatureUnknown, "signatures of this form are not verified here, nor by the nodes of a cluster"
	}
	if s.Result != "" {
		v.found.Signatures = append(v.found.Signatures, s)
		return nil
	}
	s.Form = api.SignatureSigstore
	for _, text := range texts {
		s.Result, s.By, s.Reason = v.judge(text, s)
		v.found.Signatures = append(v.found.Signatures, s)
	}
	return nil
}

// judge verifies a signature by the policies that are about the image.
func (v *verifier) judge(text signature.SignedText, s api.ImageSignature) (result, by, reason string) {
	result, reason = api.SignatureUnknown, "no release here has a policy about this image, so that the key is not known here"
	if len(v.names) == 0 {
		reason = "it is not known here what this image is a mirror of, and policies are about the names of sources"
	}
	for _, d := range v.demands {
		for _, policy := range d.policies {
			for _, name := range v.names {
				if !policy.Covers(name) {
					continue
				}
				err := policy.Verify(text, name, s.SignedManifest.Digest)
				if err == nil {
					return api.SignatureValid, fmt.Sprintf("release %s: %s", d.release.Version, policy), ""
				}
				if result == api.SignatureUnknown {
					result, reason = api.SignatureInvalid, fmt.Sprintf("nodes of release %s refuse it by %s: %v", d.release.Version, policy, err)
				}
			}
		}
	}
	return result, "", reason
}
