// Package release collects what mirror.platform of an image set configuration asks for: release
// payloads, and the components that they name.
//
// Use Collector. Components are read from the payload's own image-references file, which stays in
// the workspace, so that a repeated run does not fetch that layer again.
//
// Refused: guessing a payload's architecture from its tag, since the update graph was asked
// for one; and planning a release without a component that cannot be read, since a cluster
// cannot be installed from it.
package release

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/signature"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// The destinations of releases, as in oc-mirror.
const (
	payloadRepository   = "openshift/release-images"
	componentRepository = "openshift/release"
)

// Images reads images from their sources.
type Images interface {
	// Read sets the digest and the manifests of an image.
	Read(ctx context.Context, image *plan.Image) error
	// Blob opens a blob of an image. Its last bytes are returned only if the whole has the digest.
	Blob(ctx context.Context, image *plan.Image, d digest.Digest) (io.ReadCloser, error)
}

// Files are the documents of a mirror, by names with slashes.
type Files interface {
	Read(name string) ([]byte, error)
	List(dir string) ([]string, error) // none of a directory that does not exist
	Write(name string, data []byte) error
}

// Collector adds the releases of an image set to a plan.
type Collector struct {
	Config *imageset.Config
	Graph  updategraph.Client // of OpenShift; "" for URL is the public one
	Images Images
	Files  Files
	// Signatures gets the signatures of releases; nil: none is looked for.
	Signatures *signature.Client
	// Policies are those of the payloads about signatures, by release, once Collect has returned.
	Policies map[string][]*signature.Policy
	// Starts are the versions that the channels begin with, by channel, once Collect has returned: see
	// imageset.Channel. A channel that is there whole is not among them.
	Starts map[string]string
	// OfV1 are the releases in an archive of version 1, which has no graph: they are collected, whatever the
	// configuration asks for. nil: what is read is another archive, or none.
	OfV1 []OfV1
	// Offline reads graphs and signatures from Files, and asks no service.
	Offline bool
	// Repository returns the destination of a repository, below the prefix of the run.
	Repository func(name string) string
}

// Collect adds the components of each release, followed by its payload. A release, or a channel,
// that cannot be resolved is a failure of the plan and does not stop the others.
func (c *Collector) Collect(ctx context.Context, p *plan.Plan) error {
	s := &signatures{Collector: c}
	c.Starts = map[string]string{}
	for _, payload := range c.payloads(ctx, p) {
		components, err := c.components(ctx, p, payload)
		if err == nil {
			err = s.verify(ctx, p, payload)
		}
		if err != nil {
			c.fail(p, payload, err)
			continue
		}
		p.Images = append(append(p.Images, components...), payload)
	}
	return ctx.Err()
}

// fail adds a release that cannot be planned, unless it has failed already.
func (c *Collector) fail(p *plan.Plan, payload *plan.Image, err error) {
	for _, f := range p.Failures {
		if f.Image.Origin == payload.Origin && f.Image.Release == payload.Release {
			return
		}
	}
	f := plan.Failed(payload, err)
	f.Incomplete = "release " + payload.Release
	p.Failures = append(p.Failures, f)
}

// payloads lists the payloads. A payload that several channels lead to is listed several times, as
// any image that is asked for twice may be.
func (c *Collector) payloads(ctx context.Context, p *plan.Plan) []*plan.Image {
	if c.OfV1 != nil {
		return c.payloadsV1()
	}
	platform := c.Config.Mirror.Platform
	if platform.Release != "" {
		payload, err := c.Named(platform.Release)
		if err != nil {
			p.Failures = append(p.Failures, plan.Failed(&plan.Image{
				Type: plan.Release, Origin: platform.Release, Reason: c.Config.At("mirror.platform.release"),
			}, err))
			return nil
		}
		return []*plan.Image{payload}
	}
	r := &resolver{Collector: c, plan: p, graphs: map[string]*updategraph.Graph{}}
	for _, arch := range platform.Architectures {
		r.resolve(ctx, platform.Channels, arch)
	}
	return r.payloads
}

// Named returns the payload that platform.release names.
func (c *Collector) Named(name string) (*plan.Image, error) {
	ref, err := imageset.ParseReference(name)
	if err != nil {
		return nil, err
	}
	tag := ref.DestinationTag()
	if ref.Tag == "" && ref.Digest != "" {
		tag = ref.Digest.Encoded()
	}
	return c.payload(name, ref, tag, c.Config.At("mirror.platform.release")), nil
}

func (c *Collector) payload(origin string, ref imageset.Reference, tag, why string) *plan.Image {
	return &plan.Image{
		Type: plan.Release, Origin: origin, Reason: why, Reference: ref, Release: tag,
		Platforms:  c.Config.Mirror.Platform.Platforms,
		Repository: c.Repository(payloadRepository), Tag: tag,
	}
}

// components reads the payload and returns the images that it names.
func (c *Collector) components(ctx context.Context, p *plan.Plan, payload *plan.Image) ([]*plan.Image, error) {
	if err := c.Images.Read(ctx, payload); err != nil {
		return nil, err
	}
	found, err := c.unpack(ctx, payload)
	if err != nil {
		return nil, err
	}
	if err := c.name(ctx, payload, found); err != nil {
		return nil, err
	}
	c.policies(p, payload, found)
	bootImages, err := c.kubeVirt(found)
	if err != nil {
		return nil, err
	}
	var all []*plan.Image
	for _, component := range slices.Concat(found.components, bootImages) {
		ref, err := imageset.ParseReference(component.Image)
		if err != nil {
			return nil, fmt.Errorf("component %s: %w", component.Name, err)
		}
		if ref.Digest == "" {
			return nil, fmt.Errorf("component %s is named by tag (%s): a release names its components by digest", component.Name, component.Image)
		}
		all = append(all, &plan.Image{
			Type: plan.ReleaseContent, Origin: component.Image,
			Reason:    "component " + component.Name + " of release " + payload.Release,
			Reference: ref, Release: payload.Release, Platforms: payload.Platforms,
			Repository: c.Repository(componentRepository), Tag: payload.Tag + "-" + component.Name,
		})
	}
	return all, nil
}
