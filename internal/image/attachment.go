package image

import (
	"strings"

	"github.com/opencontainers/go-digest"
)

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

// AttachmentOf returns the manifest to which a tag attaches something: one of AttachmentTags, or the tag
// of a list of referrers, which has no suffix. ok is false for other tags.
func AttachmentOf(tag string) (subject digest.Digest, ok bool) {
	name, kind, _ := strings.Cut(tag, ".")
	switch kind {
	case "", "sig", "att", "sbom":
	default:
		return "", false
	}
	if strings.Contains(name, ":") {
		return "", false
	}
	subject, err := digest.Parse(strings.Replace(name, "-", ":", 1))
	return subject, err == nil
}
