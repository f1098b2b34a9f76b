// Package helm collects the images of Helm charts: mirror.helm of an image set configuration.
//
// Use Collector. Charts come from a chart repository, from an OCI registry, or from this host. Each
// is rendered with its default values, as a first installation is, and its images are read from
// what comes out. A chart stays in the workspace under oc-mirror's name,
// helm/charts/NAME-VERSION.tgz, which is where a collector without network reads it.
//
// Rendering is mirror/helm/render's, which this package does not import: Collector.Render is a
// function, so that a daemon does not carry Helm's libraries, and so that a template without end
// can be stopped.
//
// Refused: Helm's downloader and registry client, whose retries, logins and certificates would not
// be those of the run.
package helm

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Files are the documents of a mirror, by names with slashes.
type Files interface {
	Read(name string) ([]byte, error)
	Write(name string, data []byte) error
	// List returns the names of the files in a directory, none if there is no such directory.
	List(dir string) ([]string, error)
}

// Registry is a repository of an OCI registry.
type Registry interface {
	Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error)
	Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
	Tags(ctx context.Context) ([]string, error)
}

// Collector adds the images of the charts of an image set to a plan.
type Collector struct {
	Config *imageset.Config
	Files  Files
	// Repository returns the destination of a repository, below the prefix of the run.
	Repository func(name string) string
	// Fetch returns the client for documents of a host[:port].
	Fetch func(host string) (fetch.Client, error)
	// Keychain has the logins of chart repositories; nil reads anonymously.
	Keychain authn.Keychain
	// Open opens the repository of an OCI registry that a reference names.
	Open func(imageset.Reference) (Registry, error)
	// Render renders a chart. With an error, the result has the name and version, if these are
	// known.
	Render func(context.Context, Chart) (Rendered, error)
	// Offline reads charts and indexes from the workspace only.
	Offline bool
}

// Chart is a chart to render: a directory, or the bytes of an archive.
type Chart struct {
	Dir        string   `json:"dir,omitempty"`
	Archive    []byte   `json:"archive,omitempty"`
	ImagePaths []string `json:"imagePaths,omitempty"` // JSONPaths besides those of pods
}

// Rendered is what a chart names.
type Rendered struct {
	Name     string   `json:"name"`
	Version  string   `json:"version"`
	Images   []string `json:"images,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// concurrency is the number of charts that are downloaded and rendered at the same time.
const concurrency = 4

// Collect adds the images of each chart. A chart that cannot be read or rendered is a failure of
// the plan by its name, and an image without tag and digest is a warning.
func (c *Collector) Collect(ctx context.Context, p *plan.Plan) error {
	s := &session{Collector: c, indexes: map[string]*index{}}
	charts := s.local()
	for i, repository := range c.Config.Mirror.Helm.Repositories {
		found, err := s.charts(ctx, i, repository)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			p.Failures = append(p.Failures, failed(repository.Name+" "+plain.Address(repository.URL),
				c.Config.At(repositoryPath(i)), err))
		}
		charts = append(charts, found...)
	}
	results := make([]result, len(charts))
	g, within := errgroup.WithContext(ctx)
	g.SetLimit(concurrency)
	for i, one := range charts {
		g.Go(func() error {
			results[i] = s.collect(within, one)
			var unwritten *unwrittenError
			if errors.As(results[i].err, &unwritten) { // the workspace takes nothing any more
				return results[i].err
			}
			return within.Err()
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	c.add(p, results)
	return nil
}

// unwrittenError reports that a file cannot be written to the workspace.
type unwrittenError struct{ error }

func (e *unwrittenError) Unwrap() error { return e.error }

// result is what became of one chart.
type result struct {
	Rendered
	wanted wanted
	err    error
}

// title returns the name and the version of the chart, as far as they are known.
func (r result) title() string {
	if r.Name == "" {
		return r.wanted.String()
	}
	return r.Name + " " + r.Version
}

// collect reads a chart, renders it, and keeps it.
func (s *session) collect(ctx context.Context, w wanted) result {
	source, warnings, err := s.load(ctx, w)
	r := result{wanted: w, Rendered: Rendered{Warnings: warnings}, err: err}
	if err != nil {
		return r
	}
	source.ImagePaths = w.chart.ImagePaths
	r.Rendered, r.err = s.Render(ctx, source)
	r.Warnings = append(warnings, r.Warnings...)
	if r.err == nil && len(source.Archive) > 0 && !s.Offline {
		r.err = s.keep(w, r.Rendered, source.Archive)
	}
	return r
}

// add adds the images that the charts name, each once for the same platforms.
func (c *Collector) add(p *plan.Plan, results []result) {
	seen := map[string]bool{}
	for _, r := range results {
		for _, warning := range r.Warnings {
			p.Warnings = append(p.Warnings, "chart "+r.title()+": "+warning)
		}
		if r.err != nil {
			p.Failures = append(p.Failures, failed("chart "+r.title(), r.wanted.at, r.err))
			continue
		}
		for _, origin := range r.Images {
			once := fmt.Sprint(origin, r.wanted.chart.Platforms)
			if seen[once] {
				continue
			}
			seen[once] = true
			i := &plan.Image{
				Type: plan.Helm, Origin: origin, Reason: fmt.Sprintf("chart %s (%s)", r.title(), r.wanted.at),
				Platforms: r.wanted.chart.Platforms,
			}
			if err := c.place(i); err != nil {
				p.Failures = append(p.Failures, plan.Failed(i, err))
				continue
			}
			p.Images = append(p.Images, i)
		}
	}
}

// place sets the reference and the destination of an image.
func (c *Collector) place(i *plan.Image) (err error) {
	if i.Reference, err = imageset.ParseReference(i.Origin); err != nil {
		return err
	}
	i.Repository, i.Tag = c.Repository(i.Reference.Path), i.Reference.DestinationTag()
	if image.CheckTag(i.Tag) != nil {
		return fmt.Errorf("%s: its digest is too long to become its tag", i.Origin)
	}
	return nil
}

// failed is the failure of a chart, or of all charts of a repository.
func failed(what, at string, err error) plan.Failure {
	return plan.Failed(&plan.Image{Type: plan.Helm, Origin: what, Reason: at}, err)
}
