package images

import (
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

const (
	dockerConfig = "application/vnd.docker.container.image.v1+json"
	helmConfig   = "application/vnd.cncf.helm.config.v1+json"
)

// attachedTo returns the manifest to which a tag attaches the image of a digest. A mirror tags images that it
// has by digest as their own digest (sha256-…), which is the form of a list of referrers too: such an image is
// attached to nothing.
func attachedTo(tag string, d digest.Digest) (subject digest.Digest, ok bool) {
	subject, ok = image.AttachmentOf(tag)
	return subject, ok && subject != d
}

// kindOf returns what an image is, by its digest and types and the tag that names it.
func kindOf(d digest.Digest, mediaType, artifactType, tag string) string {
	if _, attached := attachedTo(tag, d); attached {
		switch suffix := tag[strings.LastIndexByte(tag, '.')+1:]; suffix {
		case "sig":
			return api.KindSignature
		case "att":
			return api.KindAttestation
		case "sbom":
			return api.KindSBOM
		}
		return api.KindReferrers
	}
	switch {
	case image.IsIndex(mediaType):
		return api.KindIndex
	case artifactType == helmConfig:
		return api.KindChart
	case artifactType == "" || artifactType == dockerConfig || artifactType == ocispec.MediaTypeImageConfig:
		return api.KindImage
	}
	return ofArtifact(artifactType)
}

// ofArtifact returns what an artifact is, by the words in its type: each tool has types of its own.
func ofArtifact(artifactType string) string {
	name := strings.ToLower(artifactType)
	has := func(words ...string) bool {
		for _, w := range words {
			if strings.Contains(name, w) {
				return true
			}
		}
		return false
	}
	switch {
	case has("spdx", "cyclonedx", "sbom", "syft"):
		return api.KindSBOM
	case has("in-toto", "attestation", "provenance"):
		return api.KindAttestation
	case has("cosign", "sigstore", "notary.signature", "signature"):
		return api.KindSignature
	}
	return api.KindArtifact
}
