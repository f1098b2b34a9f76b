package image

import "github.com/opencontainers/go-digest"

// AttachmentTags returns the tags by which cosign finds what it has attached to a manifest,
// such as sha256-….sig: signatures, attestations and SBOMs. A sha512 is longer than a tag may
// be, so there are none of it.
func AttachmentTags(subject digest.Digest) []string {
	if subject.Algorithm() != digest.SHA256 {
		return nil
	}
	base := "sha256-" + subject.Encoded()
	return []string{base + ".sig", base + ".att", base + ".sbom"}
}
