package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
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
	payloads, err := e.payloads(ctx, p)
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

// payloads lists the payloads; one to which several channels lead is there several times, as any image that is asked
// for twice may be.
func (e *Engine) payloads(ctx context.Context, p *Plan) ([]*Image, error) {
	platform := e.o.Config.Mirror.Platform
	if platform.Release != "" {
		payload, err := e.namedPayload(platform.Release)
		return []*Image{payload}, err
	}
	c := &channels{Engine: e, plan: p, graphs: map[string]*release.Graph{}}
	for _, arch := range platform.Architectures {
		if err := c.resolve(ctx, platform.Channels, arch); err != nil {
			return nil, err
		}
	}
	return c.payloads, nil
}

// channels resolves the channels of one plan.
type channels struct {
	*Engine
	plan     *Plan
	graphs   map[string]*release.Graph // each is asked for once
	payloads []*Image
}

// resolve adds what the channels have for one architecture, and what an update from one of them to another passes.
func (c *channels) resolve(ctx context.Context, list []imageset.Channel, arch string) error {
	var chosen []release.Chosen
	for i, channel := range list {
		graph, err := c.graph(ctx, channel.Type, channel.Name, arch)
		if err != nil {
			return err
		}
		nodes, warnings, err := graph.Resolve(release.Range{
			Min: channel.MinVersion, Max: channel.MaxVersion, Full: channel.Full, ShortestPath: channel.ShortestPath,
		})
		why := c.o.Config.At(fmt.Sprintf("mirror.platform.channels[%d]", i))
		if err != nil {
			return fmt.Errorf("%s: %w", why, err)
		}
		c.plan.Warnings = append(c.plan.Warnings, warnings...)
		for _, n := range nodes {
			if err := c.add(n, arch, why); err != nil {
				return err
			}
		}
		if channel.Type == imageset.OCP {
			chosen = append(chosen, release.Chosen{Channel: channel.Name, Nodes: nodes})
		}
	}
	passed, warnings, err := release.Across(ctx, chosen, func(ctx context.Context, name string) (*release.Graph, error) {
		return c.graph(ctx, imageset.OCP, name, arch)
	})
	c.plan.Warnings = append(c.plan.Warnings, warnings...)
	if err != nil {
		return err
	}
	for _, p := range passed {
		if err := c.add(p.Node, arch, "on the way from channel to channel, through "+p.Channel); err != nil {
			return err
		}
	}
	return nil
}

func (c *channels) add(n release.Node, arch, why string) error {
	payload, err := c.payload(n, arch, why)
	if err != nil {
		return err
	}
	c.payloads = append(c.payloads, payload)
	return nil
}

// graph asks for a channel's graph and keeps the answer in the workspace.
func (c *channels) graph(ctx context.Context, of imageset.ChannelType, name, arch string) (*release.Graph, error) {
	client := release.Client{URL: c.o.GraphURL, HTTP: c.o.HTTP}
	switch {
	case of == imageset.OKD: // UPDATE_URL_OVERRIDE is about OpenShift's graph only
		client.URL = release.OKDGraph
	case client.URL == "":
		client.URL = release.OCPGraph
	}
	key := client.URL + " " + arch + " " + name
	if graph := c.graphs[key]; graph != nil {
		return graph, nil
	}
	graph, err := client.Fetch(ctx, name, arch)
	if err != nil {
		return nil, err
	}
	if err := c.keep(graph.Raw, "hold-release", "cincinnati-graph-data", arch+"-"+name+".json"); err != nil {
		return nil, err
	}
	c.graphs[key] = graph
	return graph, nil
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
	if err := e.readImage(ctx, payload); err != nil {
		return nil, err
	}
	refs, err := e.references(ctx, payload)
	if err != nil {
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

// references are what the payload is made of. They are kept in the workspace where oc-mirror unpacks payloads, with
// a note of whose they are, so that a repeated run does not fetch the layer again.
func (e *Engine) references(ctx context.Context, payload *Image) (*release.References, error) {
	dir := e.heldRelease(payload)
	file := append(slices.Clone(dir), "release-manifests", "image-references")
	note := append(slices.Clone(dir), "payload-digest")
	raw, errRaw := os.ReadFile(e.workdir(file...))
	noted, errNote := os.ReadFile(e.workdir(note...))
	if errRaw == nil && errNote == nil && string(noted) == ownership(payload.Digest, raw) {
		return release.ParseReferences(raw)
	}
	refs, err := e.fetchReferences(ctx, payload)
	if err != nil {
		return nil, err
	}
	if err := e.keep(refs.Raw, file...); err != nil {
		return nil, err
	}
	return refs, e.keep([]byte(ownership(payload.Digest, refs.Raw)), note...)
}

// heldRelease is where a payload's files are: its repository's last name, and its tag.
func (e *Engine) heldRelease(payload *Image) []string {
	repo := path.Base(payload.source.Path)
	if payload.source.Tag == "" && payload.Tag == payload.source.Digest.Encoded() {
		repo += "@" + payload.source.Digest.Algorithm().String() // oc-mirror's, for a release without a tag
	}
	return []string{"hold-release", repo, payload.Tag}
}

// ownership notes which payload a file is of, and what is in the file.
func ownership(payload digest.Digest, raw []byte) string {
	return payload.String() + " " + digest.FromBytes(raw).String() + "\n"
}

// fetchReferences finds image-references in the payload's image; in that of any architecture, since all name the same.
func (e *Engine) fetchReferences(ctx context.Context, payload *Image) (*release.References, error) {
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

// layersOf returns the layers of a manifest that has been parsed before.
func layersOf(m Manifest) []image.Reference {
	p, _ := image.Parse(m.Descriptor.MediaType, m.body)
	return slices.DeleteFunc(p.References, func(r image.Reference) bool { return r.Kind != image.Layer })
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
func (e *Engine) keep(data []byte, names ...string) error {
	for _, part := range names {
		if part == "" || part == "." || part == ".." || strings.ContainsAny(part, "/\x00") {
			return fmt.Errorf("%q is no name for a file in the workspace: %w", part, fs.ErrInvalid)
		}
	}
	return writeFile(e.workdir(names...), data)
}
