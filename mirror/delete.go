package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// Pruner is a registry that images are deleted from. What it does not have is an error with
// fs.ErrNotExist.
type Pruner interface {
	// Manifest returns what a tag or a digest of a repository names.
	Manifest(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error)
	// Blob opens a blob, whose digest is verified while it is read.
	Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadCloser, int64, error)
	// Delete deletes a manifest with all tags that name it, or one tag alone.
	Delete(ctx context.Context, repo, ref string) error
}

// Deletion is what a DeleteImageSetConfiguration means: the images of a list, and what of them is
// at the registry.
type Deletion struct {
	Items    []deleteItem   `json:"items"`
	Absent   int            `json:"absent"` // items that are not at the registry
	Bytes    int64          `json:"bytes"`  // of the blobs of the others, each once; other images may use some of them
	Failures []plan.Failure `json:"failures"`
	Warnings []string       `json:"warnings,omitempty"`
	File     string         `json:"file"` // the list, for Delete
}

// DeleteList is how PlanDelete lists images.
type DeleteList struct {
	ID string // is a part of the name of the file
	// V1 gives images without a tag the tag that oc-mirror v1 gave them.
	V1 bool
	// Force lists also what something else at the registry needs.
	Force bool
}

// PlanDelete resolves a DeleteImageSetConfiguration against the documents that the runs of its
// workspace have kept, without asking a source, and writes the list of its images, as oc-mirror
// does. Nothing is deleted. With a Deletion, an error says that the list is not complete.
func PlanDelete(ctx context.Context, o Options, from Pruner, list DeleteList) (*Deletion, error) {
	e, err := newEngine(o)
	if err != nil {
		return nil, err
	}
	// Version 1 of oc-mirror had other workspaces.
	if _, err := os.Stat(e.workspace.path("")); !list.V1 && errors.Is(err, fs.ErrNotExist) {
		return nil, hint.New(fmt.Errorf("no run has used the workspace %s: it has no working-dir", o.Workspace),
			"name the workspace of the runs that mirrored the images: --workspace file:///data/mirror")
	}
	unlock, err := e.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	e.o.Documents = e.workspace // nothing else is asked
	catalogs := e.heldCatalogs(list.V1)
	p, err := e.listed(ctx, from, catalogs)
	if err != nil {
		return nil, err
	}
	if list.V1 {
		if p.Images, err = foundV1(ctx, from, p.Images); err != nil {
			return nil, err
		}
	} else {
		p.Images = e.tagAsMirrored(p.Images)
	}
	known, err := e.known()
	if err != nil {
		return nil, err
	}
	known.keep(p, e.mirroredBefore(), catalogs.Places())
	rest, warnings, err := e.unneeded(ctx, from, p.Images, list.Force)
	if err != nil {
		return nil, err
	}
	p.Images, p.Warnings = rest, append(p.Warnings, warnings...)
	d := &Deletion{Items: items(e, p.Images), Failures: p.Failures, Warnings: p.Warnings}
	if len(d.Items) == 0 && len(d.Failures) > 0 {
		return nil, fmt.Errorf("no images to delete: %s: %w", d.Failures[0].Image.Origin, d.Failures[0].Cause)
	}
	if len(d.Items) == 0 && len(p.Warnings) > 0 {
		return nil, hint.New(fmt.Errorf("no images to delete: %s", strings.Join(p.Warnings[:min(len(p.Warnings), 10)], "; ")),
			"take them out of what needs them and run that again, or use --force in both steps")
	}
	if len(d.Items) == 0 {
		return nil, hint.New(errors.New("no images to delete"),
			"check the list below delete: in "+o.Config.File+"; only what a run of this workspace mirrored is known here")
	}
	if err := e.preview(ctx, p, from, d); err != nil {
		return nil, err
	}
	if d.File, err = e.writeList(d.Items, list.ID); err != nil {
		return nil, err
	}
	if len(d.Failures) > 0 {
		return d, fmt.Errorf("%d of %d images cannot be listed", len(d.Failures), len(p.Images)+len(d.Failures)) // always 1, as oc-mirror's
	}
	return d, nil
}

// tagAsMirrored gives images that are named by digest the tags that the workspace has mirrored them under: a mirror
// of version 1 has made others.
func (e *engine) tagAsMirrored(images []*plan.Image) (all []*plan.Image) {
	tags := map[[2]string][]string{} // by repository and origin
	before := e.mirroredBefore()
	for at, mirrored := range before {
		place, here := strings.CutPrefix(at, e.o.Registry+"/")
		repository, tag, ok := cutLast(place, ":")
		for _, i := range mirrored {
			if key := [2]string{repository, i.Origin}; here && ok {
				tags[key] = append(tags[key], tag)
			}
		}
	}
	for _, i := range images {
		named := tags[[2]string{i.Repository, i.Origin}]
		slices.Sort(named)
		made := untaggedV1(i) || i.Reference.Digest != "" && (i.Type == plan.OperatorBundle || i.Type == plan.OperatorRelated)
		if len(before[e.destination(i)]) > 0 || len(named) == 0 || !made {
			all = append(all, i)
		}
		for _, tag := range named {
			if tag != i.Tag && made {
				as := *i
				as.Tag = tag
				all = append(all, &as)
			}
		}
	}
	return all
}

// listed collects the images of the configuration.
func (e *engine) listed(ctx context.Context, from Pruner, catalogs collector) (*plan.Plan, error) {
	p := &plan.Plan{Registry: e.o.Registry, Failures: []plan.Failure{}, Warnings: slices.Clone(e.o.Config.Warnings)}
	for _, c := range []collector{
		&release.Collector{
			Config: e.o.Config, Graph: e.o.Graph, Images: present{from},
			Files: files{e.workspace, e.o.Documents}, Offline: true,
			Repository: e.repository,
		},
		catalogs,
		&additional{config: e.o.Config, repository: e.repository},
		e.charts(),
	} {
		if err := c.Collect(ctx, p); err != nil {
			return nil, err
		}
	}
	if graph := (&graphImage{e}).image(); graph != nil {
		p.Images = append(p.Images, graph)
	}
	return p, nil
}

// present reads images from where they were mirrored to.
type present struct{ Pruner }

// Read reads the manifests of an image.
func (p present) Read(ctx context.Context, i *plan.Image) error {
	w := &walk{seen: map[digest.Digest]bool{}, sparse: true,
		fetch: func(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
			return p.Manifest(ctx, i.Repository, ref)
		}}
	ref := i.Tag
	if i.Type == plan.Release && i.Reference.Tag == "" { // its tag is known once it is read
		ref = i.Reference.Digest.String()
	}
	root, err := w.manifest(ctx, ref, 0)
	if err != nil {
		return err
	}
	i.Digest, i.Manifests = root, w.manifests
	return nil
}

// Blob opens a blob of an image.
func (p present) Blob(ctx context.Context, i *plan.Image, d digest.Digest) (io.ReadCloser, error) {
	body, _, err := p.Pruner.Blob(ctx, i.Repository, d)
	return body, err
}

// preview counts what of the images is at the registry.
func (e *engine) preview(ctx context.Context, p *plan.Plan, from Pruner, d *Deletion) error {
	seen := map[string]bool{}
	var found plan.Plan
	for _, i := range p.Images {
		if seen[e.destination(i)] {
			continue
		}
		seen[e.destination(i)] = true
		switch err := (present{from}).Read(ctx, i); {
		case errors.Is(err, fs.ErrNotExist):
			d.Absent++
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%s: %w", e.destination(i), err)
		default:
			found.Images = append(found.Images, i)
		}
	}
	d.Bytes = plan.SizeOf(found.Images, nil).Bytes
	return nil
}

// items returns the items of images, each destination once, sorted as oc-mirror does.
func items(e *engine, images []*plan.Image) []deleteItem {
	var all []deleteItem
	for _, i := range images {
		all = append(all, deleteItem{ImageName: i.Origin, ImageReference: "docker://" + e.named(i), Type: i.Type})
	}
	slices.SortStableFunc(all, func(a, b deleteItem) int { return strings.Compare(a.ImageReference, b.ImageReference) })
	return slices.CompactFunc(all, func(a, b deleteItem) bool { return a.ImageReference == b.ImageReference })
}
