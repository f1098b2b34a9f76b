package mirror

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/metadata"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/release"
)

// ArchiveV1 is what an archive of oc-mirror v1 has besides documents. It is published whole, as
// there, whatever the image set asks for.
type ArchiveV1 struct {
	// Given reports that the image set is not the archive's own: what the archive lacks of it is a
	// failure. Of its own that was decided when it was made, and must not keep the next archive
	// from being published.
	Given bool
	// Images are those to publish, and Past those that are there before, or are published now.
	Images, Past []metadata.Association
	Catalogs     []catalog.OfV1
	// Blob opens a blob of a repository of the destination: version 1 makes some images there of
	// others, which it has published before.
	Blob func(ctx context.Context, repository string, d digest.Digest) (io.ReadCloser, int64, error)
}

// archivedV1 collects an archive of version 1, by the associations of its images.
type archivedV1 struct {
	*engine
	images []*plan.Image          // to publish, without the members of lists
	past   []*plan.Image          // likewise
	named  map[string]*plan.Image // by name@digest, and by name:tag if the source may have the tag
}

// publishV1 reads the associations of an archive of version 1.
func (e *engine) publishV1() (err error) {
	a := &archivedV1{engine: e, named: map[string]*plan.Image{}}
	e.v1 = a
	if a.past, err = a.imagesOf(e.o.ArchiveV1.Past); err == nil {
		a.images, err = a.imagesOf(e.o.ArchiveV1.Images)
	}
	return err
}

func (a *archivedV1) imagesOf(all []metadata.Association) (images []*plan.Image, err error) {
	for _, of := range all {
		if digest.Digest(of.Name).Validate() == nil {
			continue
		}
		ref, err := imageset.ParseReference(of.Name)
		if err == nil {
			err = image.CheckDigest(of.ID)
		}
		if err != nil {
			return nil, fmt.Errorf("the archive has an image of the name %s: %w", of.Name, err)
		}
		ref.Tag, ref.Digest = "", of.ID
		i := &plan.Image{Type: plan.Type(cmp.Or(of.Type, string(plan.Generic))), Reason: a.o.Config.File,
			Reference: ref, Origin: ref.String(), Repository: a.repository(of.Path), Tag: of.TagSymlink}
		a.named[ref.String()] = i
		if !madeTag(of) { // then its source has it
			a.named[ref.Name()+":"+of.TagSymlink] = i
			if i.Type == plan.Generic {
				i.Origin = fmt.Sprintf("%s:%s@%s", ref.Name(), of.TagSymlink, of.ID)
			}
		}
		images = append(images, i)
	}
	return images, nil
}

// madeTag reports whether version 1 has made the tag of an image that is named by digest: of the
// beginning of that, or, for operators, of a hash of the name. Those of releases are others than at
// their source, too.
func madeTag(a metadata.Association) bool {
	const short = 6
	digits := a.ID.Encoded()[:short]
	switch a.TagSymlink {
	case "", digits, "oc-mirror" + digits, catalog.TagV1(a.Name):
		return true
	}
	return plan.Type(a.Type).Class().Whole
}

// payloads returns those of the releases.
func (a *archivedV1) payloads() []release.OfV1 {
	all := []release.OfV1{}
	for _, i := range a.images {
		if i.Type == plan.Release {
			all = append(all, release.OfV1{Reference: i.Reference, Tag: i.Tag})
		}
	}
	return all
}

// Collect adds the images that no release and no catalog brings: additional ones, and those of
// charts. The charts go to the workspace.
func (a *archivedV1) Collect(_ context.Context, p *plan.Plan) error {
	lacks := a.name()
	if a.o.ArchiveV1.Given {
		p.Failures = append(p.Failures, lacks...)
	} else {
		for _, f := range lacks {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: %s is not mirrored: %s", f.Image.Reason, f.Image.Origin, f.Error))
		}
	}
	planned := map[string]bool{} // by destination
	for _, i := range p.Images {
		planned[a.destination(i)] = true
	}
	for _, i := range a.images {
		if !i.Type.Class().Whole && !planned[a.destination(i)] {
			p.Images = append(p.Images, i)
		}
	}
	return a.keepCharts()
}

func (a *archivedV1) keepCharts() error {
	names, err := a.o.Documents.List(chartsDir)
	for _, name := range names {
		var data []byte
		if data, err = a.o.Documents.Read(chartsDir + "/" + name); err == nil {
			err = a.workspace.Write(chartsDir+"/"+name, data)
		}
		if err != nil {
			return err
		}
	}
	return err
}

// name gives the images the names that the image set has for them, and returns those that are
// missing.
func (a *archivedV1) name() (lacks []plan.Failure) {
	for n, listed := range a.o.Config.Mirror.AdditionalImages {
		why := a.o.Config.At(fmt.Sprintf("mirror.additionalImages[%d]", n))
		ref, err := imageset.ParseReference(listed.Name)
		is := func(i *plan.Image) bool {
			return i.Type == plan.Generic && i.Reference.Canonical() == ref.Canonical() &&
				(i.Reference.Digest == ref.Digest || ref.Digest == "" && i.Tag == ref.Tag)
		}
		at := slices.IndexFunc(a.images, is)
		switch {
		case err != nil:
		case at >= 0:
			a.images[at].Origin, a.images[at].Reason = listed.Name, why
		case !slices.ContainsFunc(a.past, is):
			err = hint.New(errors.New("the archive does not have it: oc-mirror leaves out what it cannot mirror with --continue-on-error and --skip-missing"),
				"make the archive again, or leave the image out of -c")
		}
		if err != nil {
			lacks = append(lacks, plan.Failed(&plan.Image{Type: plan.Generic, Origin: listed.Name, Reason: why}, err))
		}
	}
	return lacks
}

// continued is the source of an image that an earlier archive had: it is read at the destination.
type continued struct {
	Source
	at         *archivedV1
	repository string // of the destination
}

func (c continued) Manifest(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
	desc, body, err := c.Source.Manifest(ctx, ref)
	if errors.Is(err, fs.ErrNotExist) {
		return c.at.o.Held(ctx, c.repository, ref)
	}
	return desc, body, err
}

func (c continued) Blob(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error) {
	body, size, err := c.Source.Blob(ctx, d)
	if errors.Is(err, fs.ErrNotExist) {
		return c.at.o.ArchiveV1.Blob(ctx, c.repository, d)
	}
	return body, size, err
}

func (c continued) BlobFrom(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	body, size, err := c.Source.BlobFrom(ctx, d, offset)
	if !errors.Is(err, fs.ErrNotExist) {
		return body, size, err
	}
	if body, size, err = c.Blob(ctx, d); err != nil {
		return nil, 0, err
	}
	if _, err = io.CopyN(io.Discard, body, offset); err != nil {
		return nil, 0, errors.Join(err, body.Close())
	}
	return body, size, nil
}
