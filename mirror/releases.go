package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/release"
	"github.com/mirror-appliance/appliance/mirror/upstream"
)

// Where releases go, as oc-mirror has it.
const (
	payloadRepository   = "openshift/release-images"
	componentRepository = "openshift/release"
)

// planReleases adds the payloads that the configuration asks for, and their components.
func (e *Engine) planReleases(ctx context.Context, p *Plan) error {
	payloads, err := e.payloads(ctx)
	if err != nil || len(payloads) == 0 {
		return err
	}
	p.Warnings = append(p.Warnings, "release signatures are neither verified nor mirrored yet")
	for _, payload := range payloads {
		components, err := e.components(ctx, payload)
		if err != nil {
			return fmt.Errorf("release %s (%s): %w", payload.Release, payload.Origin, err)
		}
		p.Images = append(append(p.Images, components...), payload)
	}
	return nil
}

func (e *Engine) payloads(ctx context.Context) ([]*Image, error) {
	platform := e.o.Config.Mirror.Platform
	if platform.Release != "" {
		payload, err := e.namedPayload(platform.Release)
		return []*Image{payload}, err
	}
	var all []*Image
	for i, channel := range platform.Channels {
		for _, arch := range platform.Architectures {
			nodes, err := e.nodes(ctx, channel, arch)
			if err != nil {
				return nil, err
			}
			for _, n := range nodes {
				payload, err := e.payload(n, arch, e.o.Config.At(fmt.Sprintf("mirror.platform.channels[%d]", i)))
				if err != nil {
					return nil, err
				}
				all = append(all, payload)
			}
		}
	}
	return all, nil
}

func (e *Engine) nodes(ctx context.Context, channel imageset.Channel, arch string) ([]release.Node, error) {
	client := release.Client{URL: e.o.GraphURL, HTTP: e.o.HTTP}
	if client.URL == "" {
		client.URL = release.OCPGraph
		if channel.Type == imageset.OKD {
			client.URL = release.OKDGraph
		}
	}
	graph, err := client.Fetch(ctx, channel.Name, arch)
	if err != nil {
		return nil, err
	}
	if err := e.keep(graph.Raw, "hold-release", "cincinnati-graph-data", arch+"-"+channel.Name+".json"); err != nil {
		return nil, err
	}
	return graph.Resolve(release.Range{
		Min: channel.MinVersion, Max: channel.MaxVersion, Full: channel.Full, ShortestPath: channel.ShortestPath,
	})
}

// payload is a release of an update graph. Its tag is the one that the vendor gives it.
func (e *Engine) payload(n release.Node, arch, why string) (*Image, error) {
	ref, err := imageset.ParseReference(n.Payload)
	if err != nil {
		return nil, fmt.Errorf("release %s: payload %w", n.Version, err)
	}
	version := n.Version
	version.Build = nil
	tag := version.String() + "-" + machine(arch)
	return &Image{
		Type: TypeRelease, Origin: n.Payload, Why: why, source: ref, Release: tag,
		Repository: e.repository(payloadRepository), Tag: tag,
	}, nil
}

// namedPayload is the release that platform.release names.
func (e *Engine) namedPayload(name string) (*Image, error) {
	ref, err := imageset.ParseReference(name)
	if err != nil {
		return nil, err
	}
	tag := ref.Tag
	if tag == "" {
		tag = ref.Digest.Encoded()
	}
	return &Image{
		Type: TypeRelease, Origin: name, Why: e.o.Config.At("mirror.platform.release"), source: ref, Release: tag,
		Repository: e.repository(payloadRepository), Tag: tag,
	}, nil
}

// machine is what release tags call an architecture.
func machine(arch string) string {
	switch arch {
	case "amd64":
		return "x86_64"
	case "arm64":
		return "aarch64"
	}
	return arch
}

// components reads what a payload is made of.
func (e *Engine) components(ctx context.Context, payload *Image) ([]*Image, error) {
	if err := e.read(ctx, payload); err != nil {
		return nil, err
	}
	refs, err := e.references(ctx, payload)
	if err != nil {
		return nil, err
	}
	if err := e.keep(refs.Raw, "hold-release", "ocp-release", payload.Tag, "release-manifests", "image-references"); err != nil {
		return nil, err
	}
	var all []*Image
	for _, c := range refs.Components {
		ref, err := imageset.ParseReference(c.Image)
		if err != nil {
			return nil, fmt.Errorf("component %s: %w", c.Name, err)
		}
		if ref.Digest == "" {
			return nil, fmt.Errorf("component %s is named by tag (%s): a release names its components by digest", c.Name, c.Image)
		}
		all = append(all, &Image{
			Type: TypeReleaseContent, Origin: c.Image, Why: "component " + c.Name + " of release " + payload.Release,
			source: ref, Release: payload.Release,
			Repository: e.repository(componentRepository), Tag: payload.Tag + "-" + c.Name,
		})
	}
	return all, nil
}

// references finds image-references in the payload's image; in that of any architecture, since all name the same.
func (e *Engine) references(ctx context.Context, payload *Image) (*release.References, error) {
	client, err := e.client(payload.source.Registry())
	if err != nil {
		return nil, err
	}
	last := fmt.Errorf("manifest %s names no image: %w", payload.Digest, release.ErrNoReferences)
	for _, m := range payload.Manifests {
		layers := layersOf(m)
		for i := len(layers) - 1; i >= 0; i-- {
			refs, err := e.layerReferences(ctx, client, payload.source.Repository(), layers[i].Digest)
			if err == nil {
				return refs, nil
			}
			if !errors.Is(err, release.ErrNoReferences) && !errors.Is(err, release.ErrWhiteout) {
				return nil, err
			}
			last = fmt.Errorf("layer %s: %w; is it a release payload?", layers[i].Digest, err)
			if errors.Is(err, release.ErrWhiteout) {
				break
			}
		}
	}
	return nil, last
}

// layersOf is a manifest's blobs without its config.
func layersOf(m Manifest) []ocispec.Descriptor {
	p, err := parseManifest(m.body)
	if err != nil {
		return nil // it was parsed when it was read
	}
	return p.Layers
}

func (e *Engine) layerReferences(ctx context.Context, client *upstream.Client, repo string, d digest.Digest) (*release.References, error) {
	layer, _, err := client.Blob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer layer.Close()
	return release.ReadLayer(layer)
}

// keep writes a file of the working directory.
func (e *Engine) keep(data []byte, path ...string) error {
	for _, part := range path {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/\x00") {
			return fmt.Errorf("%q is no name for a file in the workspace: %w", part, fs.ErrInvalid)
		}
	}
	return writeFile(e.workdir(path...), data)
}
