package sample

import (
	"bytes"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// An operator is one package of the catalog.
type operator struct {
	name           string
	defaultChannel string
	operand        string
	bundles        []string // versions
	channels       []operatorChannel
}

type operatorChannel struct {
	name    string
	entries []map[string]any
}

func operators() []operator {
	return []operator{{
		name:           "sample-database",
		defaultChannel: "stable",
		operand:        "database",
		bundles:        []string{"1.0.0", "1.1.0", "1.2.0", "2.0.0"},
		channels: []operatorChannel{
			{"stable", []map[string]any{
				{"name": "sample-database.v1.0.0"},
				{"name": "sample-database.v1.1.0", "replaces": "sample-database.v1.0.0"},
				{"name": "sample-database.v1.2.0", "replaces": "sample-database.v1.1.0"},
			}},
			{"fast", []map[string]any{
				{"name": "sample-database.v1.2.0"},
				{"name": "sample-database.v2.0.0", "replaces": "sample-database.v1.2.0"},
			}},
		},
	}, {
		name:           "sample-logging",
		defaultChannel: "stable-5.9",
		operand:        "collector",
		bundles:        []string{"5.8.0", "5.8.1", "5.9.0"},
		channels: []operatorChannel{
			{"stable-5.8", []map[string]any{
				{"name": "sample-logging.v5.8.0"},
				{"name": "sample-logging.v5.8.1", "replaces": "sample-logging.v5.8.0"},
			}},
			{"stable-5.9", []map[string]any{
				{"name": "sample-logging.v5.8.0"},
				{"name": "sample-logging.v5.9.0", "replaces": "sample-logging.v5.8.0",
					"skips": []string{"sample-logging.v5.8.1"}, "skipRange": ">=5.8.0 <5.9.0"},
			}},
		},
	}}
}

// catalog stores a file-based catalog and its images. An upper layer deletes a package of a
// lower one, as in a catalog that was built on an older one: a reader that ignores
// whiteouts finds three packages. It has a cache, as catalogs have that opm serves, and the cache is
// not of these files: opm refuses to serve an image that keeps it.
func (b *builder) catalog() {
	configs := map[string][]byte{"configs/.wh.sample-retired": {}}
	for _, o := range operators() {
		configs["configs/"+o.name+"/catalog.json"] = b.packageBlobs(o)
	}
	retired := map[string]any{"schema": "olm.package", "name": "sample-retired", "defaultChannel": "stable"}
	layers := []layer{
		b.layer(map[string][]byte{"configs/sample-retired/catalog.json": b.json(retired)}),
		b.layer(configs),
		b.layer(map[string][]byte{"tmp/cache/digest": []byte("0000000000000000"), "tmp/cache/cache/packages.json": []byte("{}")}),
	}
	var members []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		members = append(members, b.image(CatalogRepository, image{
			format:     docker(),
			platform:   linux(arch),
			labels:     map[string]string{"operators.operatorframework.io.index.configs.v1": "/configs"},
			entrypoint: []string{"/usr/bin/opm"},
			cmd:        []string{"serve", "/configs", "--cache-dir=/tmp/cache"},
			layers:     append([]layer{b.base(arch), b.program("opm", "1", arch, 64<<10)}, layers...),
		}))
	}
	b.tag(CatalogRepository, CatalogTag, b.index(CatalogRepository, docker(), members...))
}

// packageBlobs returns the catalog.json of a package: consecutive JSON documents.
func (b *builder) packageBlobs(o operator) []byte {
	var out bytes.Buffer
	add := func(v map[string]any) {
		out.Write(b.json(v))
		out.WriteByte('\n')
	}
	add(map[string]any{"schema": "olm.package", "name": o.name, "defaultChannel": o.defaultChannel,
		"description": "A package of generated content. " + strings.Repeat("It runs nothing. ", 3)})
	for _, ch := range o.channels {
		add(map[string]any{"schema": "olm.channel", "package": o.name, "name": ch.name, "entries": ch.entries})
	}
	for _, version := range o.bundles {
		add(b.bundle(o, version))
	}
	return out.Bytes()
}

func (b *builder) bundle(o operator, version string) map[string]any {
	bundleRepo, operatorRepo, operandRepo := "operators/"+o.name+"-bundle", "operators/"+o.name+"-operator", "operators/"+o.operand
	bundle := b.image(bundleRepo, image{
		format:   docker(),
		platform: linux("amd64"),
		labels: map[string]string{
			"operators.operatorframework.io.bundle.package.v1":   o.name,
			"operators.operatorframework.io.bundle.manifests.v1": "manifests/",
		},
		layers: []layer{b.layer(map[string][]byte{
			"manifests/csv.yaml": []byte("kind: ClusterServiceVersion\nmetadata:\n  name: " + o.name + ".v" + version + "\n"),
		})},
	})
	b.tag(bundleRepo, "v"+version, bundle)
	ref := b.ref(bundleRepo, bundle)
	return map[string]any{
		"schema":  "olm.bundle",
		"name":    o.name + ".v" + version,
		"package": o.name,
		"image":   ref,
		"properties": []map[string]any{
			{"type": "olm.package", "value": map[string]string{"packageName": o.name, "version": version}},
		},
		"relatedImages": []map[string]string{
			{"name": "", "image": ref},
			{"name": "operator", "image": b.operatorImage(operatorRepo, version)},
			{"name": o.operand, "image": b.operatorImage(operandRepo, strings.SplitN(version, ".", 2)[0])},
		},
	}
}

func (b *builder) operatorImage(repo, build string) string {
	var members []ocispec.Descriptor
	for _, arch := range []string{"amd64", "arm64"} {
		members = append(members, b.image(repo, image{
			format:   docker(),
			platform: linux(arch),
			layers:   []layer{b.base(arch), b.program("manager", repo+" "+build, arch, 56<<10)},
		}))
	}
	d := b.index(repo, docker(), members...)
	b.tag(repo, "v"+build, d)
	return b.ref(repo, d)
}
