package sample

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// A builder generates content. It keeps its first error, as bufio.Writer does; New checks it once.
type builder struct {
	content *Content
	err     error
	zip     *gzip.Writer // nil until the first use; a new one has a megabyte of buffers
}

func (b *builder) fail(err error) {
	if b.err == nil {
		b.err = err
	}
}

// A format is one of the two families of media types.
type format struct {
	manifest, index, config, layer string
}

func docker() format {
	return format{
		manifest: "application/vnd.docker.distribution.manifest.v2+json",
		index:    "application/vnd.docker.distribution.manifest.list.v2+json",
		config:   "application/vnd.docker.container.image.v1+json",
		layer:    "application/vnd.docker.image.rootfs.diff.tar.gzip",
	}
}

func oci() format {
	return format{
		manifest: ocispec.MediaTypeImageManifest,
		index:    ocispec.MediaTypeImageIndex,
		config:   ocispec.MediaTypeImageConfig,
		layer:    ocispec.MediaTypeImageLayerGzip,
	}
}

// A layer is a gzipped tar, its digest, and the digest of the tar, which image configs refer to.
type layer struct {
	data   []byte
	digest digest.Digest
	diffID digest.Digest
}

// made has the layers that do not depend on the host, by what they depend on: tests generate content for hundreds
// of hosts, and took half of their time for these.
var made sync.Map

// once returns the layer of a key, from make unless it was made before.
func (b *builder) once(key string, make func() layer) layer {
	if l, ok := made.Load(key); ok {
		return l.(layer)
	}
	l := make()
	if b.err == nil {
		made.Store(key, l)
	}
	return l
}

type image struct {
	format      format
	platform    ocispec.Platform
	labels      map[string]string
	entrypoint  []string
	cmd         []string
	annotations map[string]string
	layers      []layer
}

func (b *builder) repository(name string) *repository {
	r, ok := b.content.repositories[name]
	if !ok {
		r = &repository{
			manifests: map[digest.Digest]Manifest{},
			blobs:     map[digest.Digest][]byte{},
			tags:      map[string]digest.Digest{},
		}
		b.content.repositories[name] = r
	}
	return r
}

func (b *builder) blob(repo, mediaType string, data []byte) ocispec.Descriptor {
	return b.known(repo, mediaType, data, digest.FromBytes(data))
}

// known is blob of data with a known digest.
func (b *builder) known(repo, mediaType string, data []byte, d digest.Digest) ocispec.Descriptor {
	b.repository(repo).blobs[d] = data
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(data))}
}

// manifest stores v and refuses references that the repository lacks.
func (b *builder) manifest(repo, mediaType string, v any, needs ...ocispec.Descriptor) ocispec.Descriptor {
	r, body := b.repository(repo), b.json(v)
	for _, n := range needs {
		_, isBlob := r.blobs[n.Digest]
		_, isManifest := r.manifests[n.Digest]
		if !isBlob && !isManifest {
			b.fail(fmt.Errorf("a manifest in %s refers to %s, which does not exist", repo, n.Digest))
		}
	}
	d := digest.FromBytes(body)
	r.manifests[d] = Manifest{MediaType: mediaType, Digest: d, Body: body}
	return ocispec.Descriptor{MediaType: mediaType, Digest: d, Size: int64(len(body))}
}

// image stores an image; its descriptor has the platform, for an index.
func (b *builder) image(repo string, im image) ocispec.Descriptor {
	at := created()
	config := ocispec.Image{
		Created:  &at,
		Platform: im.platform,
		Config:   ocispec.ImageConfig{Labels: im.labels, Entrypoint: im.entrypoint, Cmd: im.cmd},
		RootFS:   ocispec.RootFS{Type: "layers"},
	}
	var layers []ocispec.Descriptor
	for _, l := range im.layers {
		config.RootFS.DiffIDs = append(config.RootFS.DiffIDs, l.diffID)
		layers = append(layers, b.known(repo, im.format.layer, l.data, l.digest))
	}
	m := ocispec.Manifest{
		Versioned:   specs.Versioned{SchemaVersion: 2},
		MediaType:   im.format.manifest,
		Config:      b.blob(repo, im.format.config, b.json(config)),
		Layers:      layers,
		Annotations: im.annotations,
	}
	d := b.manifest(repo, m.MediaType, m, append(slices.Clone(layers), m.Config)...)
	d.Platform = &im.platform
	return d
}

func (b *builder) index(repo string, f format, members ...ocispec.Descriptor) ocispec.Descriptor {
	return b.manifest(repo, f.index, ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: f.index,
		Manifests: members,
	}, members...)
}

// artifact stores an OCI artifact of one layer, with a subject unless that is nil.
func (b *builder) artifact(repo, artifactType string, subject *ocispec.Descriptor,
	content ocispec.Descriptor) ocispec.Descriptor {
	m := ocispec.Manifest{
		Versioned:    specs.Versioned{SchemaVersion: 2},
		MediaType:    ocispec.MediaTypeImageManifest,
		ArtifactType: artifactType,
		Config:       b.blob(repo, ocispec.MediaTypeEmptyJSON, []byte("{}")),
		Layers:       []ocispec.Descriptor{content},
		Subject:      subject,
	}
	return b.manifest(repo, m.MediaType, m, m.Config, content)
}

func (b *builder) tag(repo, tag string, d ocispec.Descriptor) {
	b.repository(repo).tags[tag] = d.Digest
}

// ref returns the full reference by digest of a manifest in repo.
func (b *builder) ref(repo string, d ocispec.Descriptor) string {
	return b.content.host + "/" + repo + "@" + d.Digest.String()
}

func (b *builder) file(path, contentType string, data []byte) {
	b.content.files[path] = file{contentType: contentType, data: data}
}

func (b *builder) json(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		b.fail(err)
	}
	return data
}

// layer returns an image layer of the given files.
func (b *builder) layer(files map[string][]byte) layer {
	plain := b.tar(files)
	data := b.gzip(plain)
	return layer{data: data, digest: digest.FromBytes(data), diffID: digest.FromBytes(plain)}
}

// tgz returns the archive of layer without its diff ID.
func (b *builder) tgz(files map[string][]byte) []byte { return b.gzip(b.tar(files)) }

func (b *builder) tar(files map[string][]byte) []byte {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		err := w.WriteHeader(&tar.Header{
			Name: name, Mode: 0o644, Size: int64(len(files[name])),
			ModTime: created(), Format: tar.FormatUSTAR,
		})
		if err != nil {
			b.fail(err)
			return nil
		}
		if _, err := w.Write(files[name]); err != nil {
			b.fail(err)
		}
	}
	if err := w.Close(); err != nil {
		b.fail(err)
	}
	return buf.Bytes()
}

// gzip stores without compression, whose output may change with the Go version: digests must not.
func (b *builder) gzip(data []byte) []byte {
	var buf bytes.Buffer
	if b.zip == nil {
		var err error
		if b.zip, err = gzip.NewWriterLevel(&buf, gzip.NoCompression); err != nil {
			b.fail(err)
			return nil
		}
	}
	b.zip.Reset(&buf)
	if _, err := b.zip.Write(data); err != nil {
		b.fail(err)
	}
	if err := b.zip.Close(); err != nil {
		b.fail(err)
	}
	return buf.Bytes()
}

// noise returns n bytes that depend on name only, in every Go version: ChaCha8 is specified.
func (b *builder) noise(name string, n int) []byte {
	data := make([]byte, n)
	if _, err := io.ReadFull(rand.NewChaCha8(sha256.Sum256([]byte("sample-upstream 1 "+name))), data); err != nil {
		b.fail(err)
	}
	return data
}

// base returns the layer that all images of an architecture share.
func (b *builder) base(arch string) layer {
	return b.once("base "+arch, func() layer {
		return b.layer(map[string][]byte{
			"etc/os-release":   []byte("ID=sample\nVERSION_ID=9\n"),
			"usr/lib/libc.so":  b.noise("base "+arch, 192<<10),
			"etc/architecture": []byte(arch + "\n"),
		})
	})
}

// program returns a layer with one file of size bytes, which differs by build.
func (b *builder) program(name, build, arch string, size int) layer {
	content := "program " + name + " " + build + " " + arch
	return b.once(fmt.Sprint(content, " ", size), func() layer {
		return b.layer(map[string][]byte{"usr/bin/" + name: b.noise(content, size)})
	})
}

func linux(arch string) ocispec.Platform {
	return ocispec.Platform{OS: "linux", Architecture: arch}
}
