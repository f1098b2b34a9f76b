package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/rebuild"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

const (
	graphRepository = "openshift/graph-image"
	graphTag        = "latest"
	// graphBase is the image that the graph image is made of, as the update service's documentation
	// has it.
	graphBase = "registry.access.redhat.com/ubi9/ubi:latest"
	// graphData has the data of the last graph image, for a run that cannot fetch any.
	graphData = "graph-preparation/cincinnati-graph-data.tar.gz"
	// graphMade has what was made of the graph image.
	graphMade = "graph-preparation/image"
)

// graphImage collects the image with the data from which a cluster's update service makes its
// graphs.
type graphImage struct{ *engine }

// Collect adds the image after the releases. One that cannot be made is a failure of the plan.
func (g *graphImage) Collect(ctx context.Context, p *plan.Plan) error {
	image := g.image()
	if image == nil {
		return nil
	}
	if err := g.find(ctx, p, image); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.Failures = append(p.Failures, plan.Failed(image, err))
		return nil
	}
	p.Images = append(p.Images, image)
	return nil
}

// image returns the image, nil if there is none in the image set.
func (g *graphImage) image() *plan.Image {
	if !g.o.Config.Mirror.Platform.Graph && !g.hasDataV1() {
		return nil
	}
	return &plan.Image{
		Type: plan.Graph, Origin: graphRepository + ":" + graphTag, Reason: g.o.Config.At("mirror.platform.graph"),
		Repository: g.repository(graphRepository), Tag: graphTag,
		Reference: imageset.Reference{Transport: "docker", Path: graphRepository, Tag: graphTag},
	}
}

// madeHere reports whether an image has no other source than this run.
func madeHere(i *plan.Image) bool {
	return (i.Type == plan.Graph || i.Type == plan.OperatorCatalog) && i.Reference.Domain == ""
}

// find makes the image, or finds it in the archive, or beside the releases of an enclave.
func (g *graphImage) find(ctx context.Context, p *plan.Plan, image *plan.Image) error {
	if g.v1 != nil {
		return g.ofV1(ctx, image)
	}
	if g.o.Documents != nil {
		err := g.sources.Read(ctx, image)
		if errors.Is(err, fs.ErrNotExist) {
			return hint.New(fmt.Errorf("the archive has no graph image: %w", err),
				"make the archive with platform.graph: true, or leave that out here")
		}
		return err
	}
	client := g.o.Graph
	enclave := client.URL != ""
	if !enclave {
		client.URL = updategraph.OCP
	}
	data, err := client.FetchData(ctx)
	if err == nil {
		if err := g.make(ctx, image, data); err != nil {
			return err
		}
		return g.workspace.Write(graphData, data)
	}
	if !enclave || !errors.As(err, new(*fetch.StatusError)) {
		return err
	}
	return g.ofEnclave(ctx, p, image, err)
}

// make makes the image of graph data.
func (g *graphImage) make(ctx context.Context, image *plan.Image, data []byte) error {
	base, err := imageset.ParseReference(graphBase)
	if err != nil {
		return err
	}
	source, err := g.sources.source(base)
	if err != nil {
		return err
	}
	return g.makeOf(ctx, image, data, base, source)
}

// makeOf makes the image of graph data and a base.
func (g *graphImage) makeOf(ctx context.Context, image *plan.Image, data []byte, base imageset.Reference, source Source) error {
	layer, err := updategraph.DataLayer(data)
	if err != nil {
		return err
	}
	made, err := rebuild.Make(ctx, source, base.Ref(), g.workspace.path(graphMade), rebuild.Change{
		Layer: func(w io.Writer) error { _, err := w.Write(layer); return err }, Cmd: updategraph.DataCommand(), Reason: "graph data of the update service", Tag: graphTag,
	})
	if err != nil {
		return fmt.Errorf("the graph image is made of %s: %w", base, err)
	}
	g.sources.add(image.Reference, made)
	return g.sources.Read(ctx, image)
}

// ofEnclave finds the image where an update service has no data: at the registry of the enclave's
// releases, into which a mirror has put both, or as the data that the workspace had last.
func (g *graphImage) ofEnclave(ctx context.Context, p *plan.Plan, image *plan.Image, absent error) error {
	const releases = "openshift/release-images"
	for _, i := range p.Images {
		beside, ok := strings.CutSuffix(i.Reference.Path, releases)
		if i.Type != plan.Release || !ok {
			continue
		}
		image.Reference = i.Reference
		image.Reference.Path, image.Reference.Tag, image.Reference.Digest = beside+graphRepository, graphTag, ""
		image.Origin = image.Reference.String()
		if err := g.sources.Read(ctx, image); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		break
	}
	data, err := g.workspace.Read(graphData)
	if err == nil {
		return g.make(ctx, image, data)
	}
	return hint.New(fmt.Errorf("there is no graph image: the update service has no data (%w), no %s is beside the releases, and the workspace has none", absent, graphRepository),
		"mirror with platform.graph: true into this enclave first, or leave platform.graph out")
}

// graphBaseV1 is the image that version 1 makes the graph image of. Its archives have that.
const graphBaseV1 = "registry.access.redhat.com/ubi8/ubi-micro"

// hasDataV1 reports whether an archive of version 1 has graph data.
func (g *graphImage) hasDataV1() bool {
	if g.v1 == nil {
		return false
	}
	_, err := g.o.Documents.Read(graphData)
	return err == nil
}

// ofV1 makes the image of what an archive of version 1 has.
func (g *graphImage) ofV1(ctx context.Context, image *plan.Image) error {
	data, err := g.o.Documents.Read(graphData)
	if err != nil {
		return hint.New(fmt.Errorf("the archive has no graph data: %w", err), "leave platform.graph out of -c, or make an archive with it")
	}
	for _, base := range append(g.v1.images, g.v1.past...) {
		if base.Reference.Name() != graphBaseV1 {
			continue
		}
		source, err := g.sources.source(base.Reference)
		if err != nil {
			return err
		}
		return g.makeOf(ctx, image, data, base.Reference, continued{source, g.v1, base.Repository})
	}
	return fmt.Errorf("the archive has no image %s, of which the graph image is made", graphBaseV1)
}
