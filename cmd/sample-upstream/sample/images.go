package sample

import (
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// plainImages stores one image of each kind that a registry must serve unchanged.
func (b *builder) plainImages() {
	b.tag("samples/docker", "v1", b.plain("samples/docker", docker(), linux("amd64")))
	b.tag("samples/oci", "v1", b.plain("samples/oci", oci(), linux("amd64")))
	b.tag("samples/docker-multi", "v1", b.multi("samples/docker-multi", docker()))
	b.tag("samples/oci-multi", "v1", b.multi("samples/oci-multi", oci()))
	b.tag(BaseRepository, "latest", b.multi(BaseRepository, docker()))
	b.signed("samples/signed")
	b.tag("samples/artifact", "v1", b.artifact("samples/artifact", "application/vnd.sample.model.v1", nil,
		b.blob("samples/artifact", "application/vnd.sample.model.weights.v1", b.noise("weights", 64<<10))))
}

func (b *builder) plain(repo string, f format, p ocispec.Platform) ocispec.Descriptor {
	arch := p.Architecture + p.Variant
	return b.image(repo, image{
		format:   f,
		platform: p,
		labels:   map[string]string{"org.opencontainers.image.title": repo},
		layers:   []layer{b.base(arch), b.program("hello", repo, arch, 48<<10)},
	})
}

func (b *builder) multi(repo string, f format) ocispec.Descriptor {
	armv7 := ocispec.Platform{OS: "linux", Architecture: "arm", Variant: "v7"}
	return b.index(repo, f,
		b.plain(repo, f, linux("amd64")),
		b.plain(repo, f, linux("arm64")),
		b.plain(repo, f, armv7))
}

// signed stores an image with attachments of both usual kinds: an SBOM with the image as its
// subject, and a tag in cosign's scheme, with a signature.
func (b *builder) signed(repo string) {
	d := b.plain(repo, oci(), linux("amd64"))
	b.tag(repo, "v1", d)

	subject := d
	subject.Platform = nil
	b.artifact(repo, "application/spdx+json", &subject,
		b.blob(repo, "application/spdx+json", []byte(`{"spdxVersion":"SPDX-2.3","name":"`+repo+`"}`)))

	b.sign(repo, d.Digest)
}
