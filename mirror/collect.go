package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// collector adds the images of one section of the configuration to a plan. An image that cannot be planned is a failure of
// the plan; an error ends the run. Documents go to the workspace.
type collector interface {
	Collect(ctx context.Context, p *plan.Plan) error
}

// section is a collector, and the type of images whose exit code its error has.
type section struct {
	of plan.Type
	collector
}

func (e *engine) sections() []section {
	return []section{
		{plan.Release, &release.Collector{
			Config: e.o.Config, Graph: e.o.Graph, Images: e.sources, Files: files{e.workspace, e.o.Documents},
			Offline: e.o.Documents != nil, Repository: e.repository,
		}},
		{plan.Generic, &additional{config: e.o.Config, repository: e.repository}},
		{plan.Helm, e.charts()},
	}
}

// collect resolves the image set against its sources. Nothing is written but the documents of the workspace. A release that
// cannot be resolved is an error, and so is an image set without an image that can be planned.
func (e *engine) collect(ctx context.Context) (*plan.Plan, error) {
	if err := refuseUnbuilt(e.o.Config); err != nil {
		return nil, err
	}
	if err := e.workspace.check(); err != nil {
		return nil, err
	}
	p := &plan.Plan{Registry: e.o.Registry, Failures: []plan.Failure{}, Warnings: slices.Clone(e.o.Config.Warnings)}
	for _, s := range e.sections() {
		if err := s.Collect(ctx, p); err != nil {
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return nil, classed(s.of, err)
		}
	}
	if err := e.block(p); err != nil {
		return nil, err
	}
	if len(p.Images)+len(p.Failures) == 0 {
		return nil, hint.New(errors.New("no images to copy"), "check platform.channels, additionalImages, helm and blockedImages of "+e.o.Config.File)
	}
	if err := e.collisions(p); err != nil {
		return nil, err
	}
	if err := e.readAll(ctx, p); err != nil {
		return nil, err
	}
	p.Total()
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

// nested joins the last components of a path so that there are at most as many as a registry takes; 0 is any number.
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

// block removes the images whose origin or destination matches blockedImages.
func (e *engine) block(p *plan.Plan) error {
	for _, b := range e.o.Config.Mirror.BlockedImages {
		re, err := regexp.Compile(b.Name)
		if err != nil {
			return fmt.Errorf("blocked image %q: %w", b.Name, err)
		}
		p.Images = slices.DeleteFunc(p.Images, func(i *plan.Image) bool {
			return re.MatchString(i.Reference.String()) || re.MatchString(e.destination(i))
		})
	}
	return nil
}

// collisions removes images that are listed twice, and rejects two origins with one destination: which
// of them it named in the end would be chance. An image of a chart is a failure then, since the
// chart's author chose its name.
func (e *engine) collisions(p *plan.Plan) error {
	taken := map[string]*plan.Image{}
	var distinct []*plan.Image
	for _, i := range p.Images {
		other, ok := taken[e.destination(i)]
		switch {
		case !ok:
			taken[e.destination(i)] = i
			distinct = append(distinct, i)
		case other.Reference.Pull() != i.Reference.Pull():
			err := fmt.Errorf("%s (%s) and %s (%s) would both become %s", other.Origin, other.Reason, i.Origin, i.Reason, e.destination(i))
			if i.Type == plan.Helm {
				p.Failures = append(p.Failures, plan.Failed(i, hint.New(err, "mirror the chart of one of them below another path of the destination")))
				continue
			}
			return hint.New(err, "give one of them another targetRepo or targetTag")
		}
	}
	p.Images = distinct
	return nil
}

// readAll reads the manifests of all images. An unreadable image is a failure of the plan, or an error
// if its class is mirrored whole. Those that do not exist are named in one error; any other error ends
// the reading, since the registry is down for the rest too.
func (e *engine) readAll(ctx context.Context, p *plan.Plan) error {
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(e.o.ParallelImages)
	errs := make([]error, len(p.Images))
	for i, image := range p.Images {
		if image.Manifests != nil {
			continue
		}
		g.Go(func() error {
			errs[i] = e.sources.Read(within, image)
			e.o.Events(Event{Kind: Resolved, Image: image, Err: errs[i]})
			if errs[i] != nil && image.Type.Class().Whole && !errors.Is(errs[i], fs.ErrNotExist) {
				return unreadable(image, errs[i])
			}
			return nil
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		return err
	}
	readable := []*plan.Image{}
	var missing []error
	of := plan.Type("")
	for i, image := range p.Images {
		switch {
		case errs[i] == nil:
			readable = append(readable, image)
		case image.Type.Class().Whole:
			missing, of = append(missing, unreadable(image, errs[i])), image.Type
		default:
			p.Failures = append(p.Failures, plan.Failed(image, errs[i]))
		}
	}
	p.Images = readable
	return classed(of, errors.Join(missing...))
}

// unreadable is the error of an image that something larger cannot do without.
func unreadable(image *plan.Image, err error) error {
	return classed(image.Type, fmt.Errorf("%s, %s: %w", image.Origin, image.Reason, err))
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
			Type: plan.Generic, Origin: listed.Name, Reason: a.config.At(fmt.Sprintf("mirror.additionalImages[%d]", i)), Reference: ref,
		}
		if err != nil {
			p.Failures = append(p.Failures, plan.Failed(image, err))
			continue
		}
		repo, tag := ref.Path, ref.DestinationTag()
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
