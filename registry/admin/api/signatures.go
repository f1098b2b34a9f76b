package api

import "github.com/opencontainers/go-digest"

// ImageSignatures are the signatures of an image, and of the images that it lists.
type ImageSignatures struct {
	Repository string `json:"repository"`
	// Manifests are the image and those that it lists and that are here: nodes ask for signatures of the
	// image that they run.
	Manifests []SignedManifest `json:"manifests"`
	// Origins are what it is a mirror of: policies are about the names of sources.
	Origins    []string         `json:"origins"`
	Signatures []ImageSignature `json:"signatures"`
	// Unread is the reason that not all releases here were asked for their policies.
	Unread string `json:"unread,omitempty"`
}

// SignedManifest is a manifest that may be signed.
type SignedManifest struct {
	Digest   digest.Digest `json:"digest"`
	Platform string        `json:"platform,omitempty"` // of a member of a list
}

// Forms of signatures that can be verified here.
const (
	SignatureOpenPGP  = "openpgp"  // of a release, as clusters verify it before an update
	SignatureSigstore = "sigstore" // as nodes verify it at a pull
)

// Results of verifications.
const (
	SignatureValid   = "valid"
	SignatureInvalid = "invalid"
	SignatureUnknown = "unknown" // it could not be verified here
)

// ImageSignature is a signature.
type ImageSignature struct {
	SignedManifest
	Form   string        `json:"form"`             // or the type of an artifact that is not understood
	In     digest.Digest `json:"in,omitempty"`     // the manifest that has it; "": a run has recorded it
	Tag    string        `json:"tag,omitempty"`    // by which it is attached; "": by its subject
	Result string        `json:"result"`           // SignatureValid, SignatureInvalid or SignatureUnknown
	By     string        `json:"by,omitempty"`     // the key or the policy by which it is valid
	Reason string        `json:"reason,omitempty"` // that it is not
}
