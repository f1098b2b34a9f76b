package archive

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// images are the manifests and tags of a run, until its commit.
type images struct {
	plan      *plan.Plan // nil: the caller has none
	lacks     map[*plan.Image]string
	manifests map[digest.Digest]manifest
	in        map[string]map[digest.Digest]bool // the repositories that have a manifest
	tags      map[string]map[string]digest.Digest
}

// manifest is a manifest with what it refers to. The body is the plan's, and is not copied.
type manifest struct {
	mediaType string
	body      []byte
	parsed    image.Manifest
}

func newImages() *images {
	return &images{
		manifests: map[digest.Digest]manifest{}, in: map[string]map[digest.Digest]bool{},
		tags: map[string]map[string]digest.Digest{},
	}
}

func (i *images) has(repo string, d digest.Digest) bool { return i.in[repo][d] }

func (i *images) put(repo string, desc ocispec.Descriptor, body []byte) error {
	if err := image.CheckRepository(repo); err != nil {
		return err
	}
	if err := image.CheckDigest(desc.Digest); err != nil {
		return err
	}
	if desc.Digest.Algorithm().FromBytes(body) != desc.Digest {
		return fmt.Errorf("manifest %s: its content has another digest", desc.Digest)
	}
	if _, known := i.manifests[desc.Digest]; !known {
		parsed, err := image.Parse(desc.MediaType, body)
		if err != nil {
			return fmt.Errorf("manifest %s: %w", desc.Digest, err)
		}
		i.manifests[desc.Digest] = manifest{desc.MediaType, body, parsed}
	}
	if i.in[repo] == nil {
		i.in[repo] = map[digest.Digest]bool{}
	}
	i.in[repo][desc.Digest] = true
	return nil
}

func (i *images) tag(tags map[string]map[string]digest.Digest) error {
	for repo, named := range tags {
		for tag, d := range named {
			if err := image.CheckTag(tag); err != nil {
				return err
			}
			if !i.has(repo, d) {
				return fmt.Errorf("tag %s:%s: manifest %s is not in the archive", repo, tag, d)
			}
		}
		if i.tags[repo] == nil {
			i.tags[repo] = map[string]digest.Digest{}
		}
		maps.Copy(i.tags[repo], named)
	}
	return nil
}

// content is the manifests and blobs of a repository's tagged images.
type content struct {
	manifests map[digest.Digest]bool
	blobs     map[digest.Digest]bool
}

// tagged returns what belongs to the tags of a repository, and what has that as its subject. What
// belongs to an image that failed is not tagged.
func (i *images) tagged(repo string) content {
	c := content{map[digest.Digest]bool{}, map[digest.Digest]bool{}}
	for _, d := range i.tags[repo] {
		i.collect(c, repo, d)
	}
	for added := true; added; { // signatures may be of others
		added = false
		for d := range i.in[repo] {
			if !c.manifests[d] && c.manifests[i.manifests[d].parsed.Subject] {
				i.collect(c, repo, d)
				added = true
			}
		}
	}
	return c
}

func (i *images) collect(c content, repo string, d digest.Digest) {
	if c.manifests[d] || !i.has(repo, d) { // a sparse index names what is not there
		return
	}
	c.manifests[d] = true
	m := i.manifests[d]
	for _, r := range m.parsed.References {
		if r.Kind == image.Child {
			i.collect(c, repo, r.Digest)
		}
	}
	for _, r := range m.parsed.Copied() {
		c.blobs[r.Digest] = true
	}
}

// list returns the images of the plan that are tagged, and those that are not. What is tagged beside it is
// not complete: the name of a catalog's original. Without a plan, all that is tagged is an image.
func (i *images) list() (all []Image, failures []Failure) {
	all, failures = []Image{}, []Failure{}
	if i.plan != nil {
		for _, p := range i.plan.Images {
			if i.tags[p.Repository][p.Tag] != p.Digest || i.lacks[p] != "" {
				failures = append(failures, failure(p, cmp.Or(i.lacks[p], "could not be copied")))
				continue
			}
			all = append(all, Image{string(p.Type), p.Origin, p.Reference.String(), p.Repository, p.Tag, p.Digest})
		}
		for _, f := range i.plan.Failures {
			failures = append(failures, failure(f.Image, f.Error))
		}
		return all, failures
	}
	for _, repo := range slices.Sorted(maps.Keys(i.tags)) {
		for _, tag := range slices.Sorted(maps.Keys(i.tags[repo])) {
			all = append(all, Image{Repository: repo, Tag: tag, Digest: i.tags[repo][tag]})
		}
	}
	return all, failures
}

// failure describes an image that the archive is without, and the catalogs that are without its
// bundles.
func failure(i *plan.Image, why string) Failure {
	f := Failure{Type: string(i.Type), Origin: i.Origin, Error: why}
	if i.Type == plan.OperatorCatalog {
		catalog, _, _ := strings.Cut(i.Origin, " package ") // of one that could not be selected
		f.Catalogs = []string{catalog}
	}
	var bundles []string
	for _, b := range i.Bundles {
		bundles = append(bundles, b.Name)
		if !slices.Contains(f.Catalogs, b.Catalog) {
			f.Catalogs = append(f.Catalogs, b.Catalog)
		}
	}
	if len(bundles) > 0 {
		f.Error += "; the catalog is without bundle " + strings.Join(bundles, ", ")
	}
	return f
}

// Images returns the images of the newest archive, which has its catalogs whole. Those of another
// program have no types and origins.
func (a *Archive) Images() []Image {
	all := a.parts[len(a.parts)-1].described().Images
	if a.parts[len(a.parts)-1].contents == nil {
		return all
	}
	return slices.DeleteFunc(slices.Clone(all), func(i Image) bool { return i.Type == "" }) // tags that belong to others
}

// failed returns the reason that the newest archive is without an image, which is pulled by a reference;
// "": it is not known.
func (a *Archive) failed(reference string) string {
	list := a.parts[len(a.parts)-1].contents
	if list == nil {
		return ""
	}
	for _, f := range list.Failures {
		if ref, err := imageset.ParseReference(f.Origin); err == nil && ref.Pull() == reference {
			return f.Error
		}
	}
	return ""
}

// Lost returns what the newest archive is without of an operator catalog, which the image set names
// so.
func (a *Archive) Lost(catalog string) (all []plan.Failure) {
	list := a.parts[len(a.parts)-1].contents
	if list == nil {
		return nil
	}
	for _, f := range list.Failures {
		if slices.Contains(f.Catalogs, catalog) {
			i := &plan.Image{Type: plan.Type(f.Type), Origin: f.Origin}
			all = append(all, plan.Failed(i, errors.New("the archive is without it: "+f.Error)))
		}
	}
	return all
}
