package sample

import (
	"fmt"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A version is a release and the releases that can update to it.
type version struct {
	number   string
	previous []string
	old      bool // with the same components as the other old ones
}

// A cluster of 4.16 comes to 4.18 through 4.17, in the channels for extended update support. 4.18.1
// updates to 4.18.3 directly and through 4.18.2, so a shortest path differs from a range.
func versions() []version {
	return []version{
		{number: "4.16.2", old: true},
		{number: "4.17.2", previous: []string{"4.16.2"}, old: true},
		{number: "4.18.1", previous: []string{"4.17.2"}},
		{number: "4.18.2", previous: []string{"4.17.2", "4.18.1"}},
		{number: "4.18.3", previous: []string{"4.18.1", "4.18.2"}},
		{number: "4.18.4", previous: []string{"4.18.2", "4.18.3"}},
	}
}

// A component is an image of a release. A fixed one is the same in every release; one with like is
// another component's image under a second name.
type component struct {
	name  string
	size  int
	fixed bool
	like  string
}

func components() []component {
	return []component{
		{name: "cli", size: 160 << 10},
		{name: "cli-artifacts", like: "cli"},
		{name: "cluster-version-operator", size: 96 << 10},
		{name: "coredns", size: 64 << 10, fixed: true},
		{name: "etcd", size: 128 << 10, fixed: true},
		{name: "hyperkube", size: 192 << 10},
		{name: "machine-config-operator", size: 80 << 10},
		{name: "machine-os-images", size: 48 << 10, fixed: true},
		{name: "pod", size: 32 << 10, fixed: true},
	}
}

// archTags are the architectures of releases, with their names in release tags. Single ones come
// first: a multi release contains them.
func archTags() [][2]string {
	return [][2]string{{"amd64", "x86_64"}, {"arm64", "aarch64"}, {"multi", "multi"}}
}

func (b *builder) releases() {
	b.releaseKeyFile()
	b.imageKeyFile()
	for _, v := range versions() {
		single := map[string]map[string]ocispec.Descriptor{}
		for _, at := range archTags() {
			if arch := at[0]; arch != "multi" {
				single[arch] = b.components(v, arch)
			}
		}
		for _, at := range archTags() {
			b.release(v, at[0], at[1], single)
		}
	}
}

func (b *builder) components(v version, arch string) map[string]ocispec.Descriptor {
	images := map[string]ocispec.Descriptor{}
	for _, c := range components() {
		if c.like != "" {
			images[c.name] = images[c.like]
			continue
		}
		build := v.number
		switch {
		case c.fixed:
			build = "fixed"
		case v.old:
			build = "old"
		}
		images[c.name] = b.image(ComponentRepository, image{
			format:   docker(),
			platform: linux(arch),
			labels:   map[string]string{"io.openshift.build.name": c.name},
			layers:   []layer{b.base(arch), b.contentOf(c, build, arch)},
		})
		b.sign(ComponentRepository, images[c.name].Digest)
	}
	return images
}

// contentOf returns the layer of a component: a program, or the ISO that hosts boot from.
func (b *builder) contentOf(c component, build, arch string) layer {
	if c.name != "machine-os-images" {
		return b.program(c.name, build, arch, c.size)
	}
	machine := "x86_64"
	if arch == "arm64" {
		machine = "aarch64"
	}
	return b.once(fmt.Sprint("iso ", machine, " ", c.size), func() layer {
		iso := make([]byte, c.size)
		copy(iso[32<<10:], "\x01CD001") // the beginning of a volume descriptor, ISO 9660 8.1
		return b.layer(map[string][]byte{"coreos/coreos-" + machine + ".iso": iso})
	})
}

// release stores a payload. A multi payload is an index with one payload for each architecture,
// which refer to the components by their indexes.
func (b *builder) release(v version, arch, suffix string, single map[string]map[string]ocispec.Descriptor) {
	images, shards := single[arch], []string{arch}
	if arch == "multi" {
		images, shards = b.componentLists(single), []string{"amd64", "arm64"}
	}
	refs := map[string]string{}
	for name, d := range images {
		refs[name] = b.ref(ComponentRepository, d)
	}
	var payloads []ocispec.Descriptor
	for _, shard := range shards {
		payloads = append(payloads, b.payload(v, shard, arch == "multi", refs))
	}
	d := payloads[0]
	if arch == "multi" {
		d = b.index(ReleaseRepository, docker(), payloads...)
		b.sign(ReleaseRepository, d.Digest)
	}
	tag := v.number + "-" + suffix
	b.tag(ReleaseRepository, tag, d)
	b.signRelease(tag, d)
	b.content.releases = append(b.content.releases, Release{
		Version: v.number, Arch: arch, Tag: tag, Digest: d.Digest,
		Payload: b.ref(ReleaseRepository, d), Components: refs,
	})
}

func (b *builder) componentLists(single map[string]map[string]ocispec.Descriptor) map[string]ocispec.Descriptor {
	lists := map[string]ocispec.Descriptor{}
	for _, c := range components() {
		lists[c.name] = b.index(ComponentRepository, docker(), single["amd64"][c.name], single["arm64"][c.name])
		b.sign(ComponentRepository, lists[c.name].Digest)
	}
	return lists
}

func (b *builder) payload(v version, arch string, multi bool, refs map[string]string) ocispec.Descriptor {
	manifests := b.layer(map[string][]byte{
		"release-manifests/image-references":                                b.imageReferences(v.number, refs),
		"release-manifests/release-metadata":                                b.json(metadata(v, multi)),
		"release-manifests/0000_50_installer_coreos-bootimages.yaml":        b.bootImages(arch),
		"release-manifests/0000_90_openshift-cluster-image-policy.yaml":     b.imagePolicy(),
		"release-manifests/0000_00_cluster-version-operator_namespace.yaml": []byte("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: openshift-cluster-version\n"),
	})
	d := b.image(ReleaseRepository, image{
		format:   docker(),
		platform: linux(arch),
		labels:   map[string]string{"io.openshift.release": v.number},
		layers:   []layer{b.base(arch), b.program("cluster-version-operator", v.number, arch, 96<<10), manifests},
	})
	b.sign(ReleaseRepository, d.Digest)
	return d
}

// imageReferences returns the ImageStream that lists the components of the release.
func (b *builder) imageReferences(version string, refs map[string]string) []byte {
	var tags []map[string]any
	for _, c := range components() {
		tags = append(tags, map[string]any{
			"name":            c.name,
			"annotations":     map[string]string{"io.openshift.build.source-location": "https://example.com/" + c.name},
			"from":            map[string]string{"kind": "DockerImage", "name": refs[c.name]},
			"generation":      nil,
			"importPolicy":    map[string]any{},
			"referencePolicy": map[string]string{"type": ""},
		})
	}
	return b.json(map[string]any{
		"kind":       "ImageStream",
		"apiVersion": "image.openshift.io/v1",
		"metadata":   map[string]any{"name": version, "creationTimestamp": created()},
		"spec":       map[string]any{"lookupPolicy": map[string]bool{"local": false}, "tags": tags},
		"status":     map[string]string{"dockerImageRepository": ""},
	})
}

// metadata returns the file from which the update service draws the graph.
func metadata(v version, multi bool) map[string]any {
	m := map[string]string{"url": errata(v.number)}
	if multi {
		m["release.openshift.io/architecture"] = "multi"
	}
	previous := v.previous
	if previous == nil {
		previous = []string{} // a null list would make the file invalid
	}
	return map[string]any{"kind": "cincinnati-metadata-v0", "version": v.number, "previous": previous, "metadata": m}
}

func errata(version string) string {
	return "https://example.com/errata/SAMPLE-" + strings.ReplaceAll(version, ".", "-")
}

// bootImages returns the ConfigMap in which kubeVirtContainer finds its image.
func (b *builder) bootImages(arch string) []byte {
	coreos := map[string]string{"amd64": "x86_64", "arm64": "aarch64"}[arch]
	disk := b.image(ComponentRepository, image{
		format:   docker(),
		platform: linux(arch),
		layers: []layer{b.once("coreos "+arch, func() layer {
			return b.layer(map[string][]byte{"disk/coreos.img": b.noise("coreos "+arch, 64<<10)})
		})},
	})
	b.sign(ComponentRepository, disk.Digest)
	stream := b.json(map[string]any{
		"stream": "rhel-9.6",
		"architectures": map[string]any{coreos: map[string]any{"images": map[string]any{"kubevirt": map[string]string{
			"release": "9.6.1", "image": b.content.host + "/" + ComponentRepository + ":kubevirt",
			"digest-ref": b.ref(ComponentRepository, disk),
		}}}},
	})
	return fmt.Appendf(nil, "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: coreos-bootimages\n  namespace: openshift-machine-config-operator\ndata:\n  stream: |\n    %s\n", stream)
}
