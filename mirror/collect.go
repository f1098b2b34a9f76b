package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// collector adds the images of one section of the configuration to a plan. An image that cannot be
// planned is a failure of the plan; an error ends the run. Documents go to the workspace.
type collector interface {
	Collect(ctx context.Context, p *plan.Plan) error
}

// section is a collector, and the type of images whose exit code its error has.
type section struct {
	of plan.Type
	collector
}

func (e *engine) releases() *release.Collector {
	c := &release.Collector{
		Config: e.o.Config, Graph: e.o.Graph, Images: e.sources, Files: files{e.workspace, e.o.Documents},
		Offline: e.o.Documents != nil, Signatures: e.releaseSignatures(), Repository: e.repository,
	}
	if e.v1 != nil {
		c.OfV1 = e.v1.payloads()
	}
	return c
}

func (e *engine) sections(releases *release.Collector) []section {
	if e.v1 != nil {
		return []section{{plan.Release, releases}, {plan.Graph, &graphImage{e}}, {plan.OperatorCatalog, e.catalogs}, {plan.Generic, e.v1}}
	}
	return []section{
		{plan.Release, releases},
		{plan.Graph, &graphImage{e}},
		{plan.OperatorCatalog, e.catalogs},
		{plan.Generic, &additional{config: e.o.Config, repository: e.repository}},
		{plan.Helm, e.charts()},
	}
}

// collect resolves the image set against its sources. Nothing is written but the documents
// of the workspace. What cannot be planned is a failure of the plan; an image set that asks
// for nothing is an error.
func (e *engine) collect(ctx context.Context) (*plan.Plan, error) {
	if err := e.checkPast(); err != nil {
		return nil, err
	}
	if err := e.workspace.check(); err != nil {
		return nil, err
	}
	if err := e.recall(); err != nil {
		return nil, err
	}
	p := &plan.Plan{Registry: e.o.Registry, Failures: []plan.Failure{}, Warnings: slices.Clone(e.o.Config.Warnings)}
	releases := e.releases()
	for _, s := range e.sections(releases) {
		if err := s.Collect(ctx, p); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, classed(s.of, err)
		}
	}
	e.starts = starts{Operators: e.catalogs.Starts(), Channels: releases.Starts}
	blocked, err := e.blocked()
	if err != nil {
		return nil, err
	}
	p.Images, p.Blocked = apart(p.Images, blocked)
	unite(p.Images)
	if e.o.Config.V1 && !e.o.ToArchive { // archives are those of version 2
		tagAsV1(p.Images)
	}
	p.Images = e.dedupe(p.Images)
	if err := e.readAll(ctx, p); err != nil {
		return nil, err
	}
	e.collisions(p)
	if err := e.buildCatalogs(ctx, p, blocked); err != nil {
		return nil, err
	}
	p.Blocked = e.dedupe(p.Blocked)
	e.warnOfBlocked(p)
	if len(p.Images)+len(p.Failures) == 0 {
		return nil, hint.New(errors.New("no images to copy"),
			"check platform.channels, operators, additionalImages, helm and blockedImages of "+e.o.Config.File)
	}
	if err := e.attach(ctx, p, releases.Policies); err != nil {
		return nil, err
	}
	p.Measure()
	p.WarnOfForeign()
	return p, nil
}

// repository returns the destination of a repository, below the prefix.
func (e *engine) repository(path string) string {
	if e.o.Prefix != "" {
		path = e.o.Prefix + "/" + path
	}
	return nested(path, e.o.MaxNestedPaths)
}

// nested joins the last components of a path so that there are at most as many as a registry
// takes; 0 is any number.
func nested(path string, most int) string {
	parts := strings.Split(path, "/")
	if most < 1 || len(parts) <= most {
		return path
	}
	return strings.Join(append(parts[:most-1:most-1], strings.Join(parts[most-1:], "-")), "/")
}

// destination returns the complete name of an image's destination.
func (e *engine) destination(i *plan.Image) string {
	return e.o.Registry + "/" + i.Repository + ":" + i.Tag
}

// unite gives the images of one reference the platforms of all of them. One that wants all members
// wants them for the others too.
func unite(images []*plan.Image) {
	all := map[string][]imageset.OSArch{}
	for _, i := range images {
		at := i.Reference.Pull()
		before, known := all[at]
		switch {
		case len(i.Platforms) == 0 || known && len(before) == 0:
			all[at] = nil
		default:
			for _, p := range i.Platforms {
				if !slices.Contains(all[at], p) {
					all[at] = append(all[at], p)
				}
			}
		}
	}
	for _, i := range images {
		i.Platforms = all[i.Reference.Pull()]
	}
}

// dedupe removes images that are listed twice. The first one is in the bundles of all.
func (e *engine) dedupe(images []*plan.Image) []*plan.Image {
	seen := map[[2]string]*plan.Image{}
	return slices.DeleteFunc(images, func(i *plan.Image) bool {
		at := [2]string{e.destination(i), i.Reference.Pull()}
		first, twice := seen[at]
		if !twice {
			seen[at] = i
			return false
		}
		for _, b := range i.Bundles {
			if !slices.Contains(first.Bundles, b) {
				first.Bundles = append(first.Bundles, b)
			}
		}
		return true
	})
}

// collisions turns images that differ and have one destination into failures: chance would decide
// which of them its tag names. The image of a chart, whose author chose its name, gives way to one
// that is listed. Several names of one image may share a destination.
func (e *engine) collisions(p *plan.Plan) {
	first := map[string]*plan.Image{}
	errs := map[*plan.Image]error{}
	for _, i := range p.Images {
		other, ok := first[e.destination(i)]
		if !ok {
			first[e.destination(i)] = i
			continue
		}
		if other.Digest == i.Digest {
			continue
		}
		chart, otherChart := i.Type == plan.Helm, other.Type == plan.Helm
		next := "give one of them another targetRepo or targetTag"
		if i.Type == plan.OperatorCatalog || other.Type == plan.OperatorCatalog {
			next = "give one of them another targetTag, or the catalog another targetCatalog"
		}
		if chart || otherChart {
			next += ", or mirror the chart below another path of the destination"
		}
		err := hint.New(fmt.Errorf("%s (%s) and %s (%s) differ and would both become %s", other.Origin,
			other.Reason, i.Origin, i.Reason, e.destination(i)), next)
		switch {
		case chart && !otherChart:
			errs[i] = err
		case otherChart && !chart:
			errs[other], first[e.destination(i)] = err, i
		default:
			errs[i], errs[other] = err, err
		}
	}
	separate(p, errs)
}

// readAll reads the manifests of all images. An image that cannot be read is a failure of the plan,
// and so is the release that needs it. Once a source has failed, the rest of that release is not
// asked for: a registry that is down is down for it too. What does not exist is named completely. An
// image that is named by digest and is at the destination needs nothing of its source.
func (e *engine) readAll(ctx context.Context, p *plan.Plan) error {
	var g errgroup.Group
	g.SetLimit(e.o.ParallelImages)
	var mu sync.Mutex // guards errs and down
	errs, down := map[*plan.Image]error{}, map[string]bool{}
	for _, image := range p.Images {
		if image.Manifests != nil {
			continue
		}
		g.Go(func() error {
			whole := image.Type.Class().Whole
			mu.Lock()
			skip := whole && down[image.Release]
			mu.Unlock()
			if skip || ctx.Err() != nil {
				return nil
			}
			within, done := e.watch(ctx)
			defer done()
			err := stalled(within, watched(within, func() error { return e.sources.Read(within, image) }))
			if err != nil && e.readHeld(ctx, image) {
				err = nil
			}
			e.o.Events(Event{Kind: Resolved, Image: image, Err: err})
			if err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs[image] = err
				down[image.Release] = down[image.Release] || whole && !errors.Is(err, fs.ErrNotExist)
			}
			return nil
		})
	}
	_ = g.Wait() // each image has its own error
	separate(p, errs)
	return ctx.Err()
}

// separate moves images that cannot be mirrored, each with its error, from the images of a plan to
// its failures. The other images of an incomplete release go with them.
func separate(p *plan.Plan, errs map[*plan.Image]error) {
	spread(p.Images, errs)
	p.Failures = append(p.Failures, failures(p.Images, errs)...)
	p.Images = slices.DeleteFunc(p.Images, func(i *plan.Image) bool { return errs[i] != nil })
}

// additional collects mirror.additionalImages.
type additional struct {
	config     *imageset.Config
	repository func(string) string
}

// Collect adds the images as they are listed.
func (a *additional) Collect(_ context.Context, p *plan.Plan) error {
	for i, listed := range a.config.Mirror.AdditionalImages {
		ref, err := imageset.ParseReference(listed.Name)
		image := &plan.Image{
			Type: plan.Generic, Origin: listed.Name,
			Reason: a.config.At(fmt.Sprintf("mirror.additionalImages[%d]", i)), Reference: ref,
			Platforms: listed.Platforms,
		}
		if err != nil {
			p.Failures = append(p.Failures, plan.Failed(image, err))
			continue
		}
		repo, tag := ref.DestinationPath(), ref.DestinationTag()
		if listed.TargetRepo != "" {
			repo = listed.TargetRepo
		}
		if listed.TargetTag != "" {
			tag = listed.TargetTag
		}
		if ref.Tag != "" && ref.Digest != "" {
			p.Warnings = append(p.Warnings, listed.Name+" has a tag and a digest: it is pulled by digest and pushed by tag")
		}
		image.Repository, image.Tag = a.repository(repo), tag
		p.Images = append(p.Images, image)
	}
	return nil
}
