package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// Present finds out which images a registry has for its clusters. An image is there when it is whole
// in a repository to which the cluster resources of the registry lead for it. One that is named by
// digest is also there when it is whole where a mirror may have put it: another program has recorded no
// origin, and clusters have its resources. One in any other repository is as absent as one that lacks a
// layer, since no cluster is led to it. Present remembers its answers.
type Present struct {
	read      ReadManifest
	having    Repositories
	places    []resources.Image
	bySource  map[string][]int             // indexes of places
	platforms map[string][]imageset.OSArch // with which a reference was mirrored
	known     map[string]string            // by reference: the reason that it is absent, "" if it is there
}

// ReadManifest reads the manifest that a tag or digest names in a repository. The error is
// fs.ErrNotExist if there is none; NewPresent wants one that is that also if a configuration or a layer
// is missing.
type ReadManifest func(ctx context.Context, repository, ref string) (ocispec.Descriptor, []byte, error)

// Repositories returns the repositories that have a manifest.
type Repositories func(ctx context.Context, d digest.Digest) ([]string, error)

// NewPresent returns a Present of a registry, by what its runs recorded.
func NewPresent(origins []Origin, read ReadManifest, having Repositories) (*Present, error) {
	p := &Present{read: read, having: having, bySource: map[string][]int{}, platforms: map[string][]imageset.OSArch{}, known: map[string]string{}}
	var found resources.Mirrored
	for _, o := range origins {
		i, err := o.image()
		if err != nil {
			return nil, err
		}
		i.describe(o.Repository+":"+o.Tag, "", &found)
		if ref, err := imageset.ParseReference(i.Origin); err == nil {
			p.platforms[ref.Pull()] = i.Platforms
		}
	}
	seen := map[resources.Image]bool{}
	for _, i := range found.Images {
		if i.Category = ""; seen[i] {
			continue
		}
		seen[i] = true
		p.bySource[i.Source] = append(p.bySource[i.Source], len(p.places))
		p.places = append(p.places, i)
	}
	return p, nil
}

// Lacking returns those of some images that are not there, with the reasons.
func (p *Present) Lacking(ctx context.Context, images []string) (map[string]string, error) {
	lacking := map[string]string{}
	for _, name := range images {
		reason, known := p.known[name]
		if !known {
			var err error
			if reason, err = p.look(ctx, name); err != nil {
				return nil, fmt.Errorf("look for image %s: %w", name, err)
			}
			p.known[name] = reason
		}
		if reason != "" {
			lacking[name] = reason
		}
	}
	return lacking, nil
}

// Places returns where an image can be that clusters ask for by name, with the tag or digest there:
// each repository to which they are led for it, and, if it is named by digest, each that has it where a
// mirror may put it.
func (p *Present) Places(ctx context.Context, name string) (all []Place, err error) {
	ref, err := imageset.ParseReference(name)
	if err != nil {
		return nil, nil
	}
	for _, n := range p.bySource[ref.Canonical()] {
		at := p.places[n]
		switch {
		case ref.Digest != "" && at.ByDigest:
			all = append(all, Place{at.Destination, ref.Digest.String()})
		case ref.Digest == "" && at.ByTag:
			all = append(all, Place{at.Destination, ref.DestinationTag()})
		}
	}
	if ref.Digest == "" {
		return all, nil
	}
	repositories, err := p.having(ctx, ref.Digest)
	for _, repository := range repositories {
		at := Place{repository, ref.Digest.String()}
		if MayMirror(repository, ref.Path) && !slices.Contains(all, at) {
			all = append(all, at)
		}
	}
	return all, err
}

// look returns the reason that an image is absent, "" if it is there.
func (p *Present) look(ctx context.Context, name string) (reason string, err error) {
	ref, err := imageset.ParseReference(name)
	if err != nil {
		return err.Error(), nil
	}
	places, err := p.Places(ctx, name)
	if err != nil {
		return "", err
	}
	reason = "no run has mirrored it"
	for _, at := range places {
		switch err := p.complete(ctx, at.Repository, at.Reference, p.platforms[ref.Pull()]); {
		case err == nil:
			return "", nil
		case !errors.Is(err, fs.ErrNotExist):
			return "", err
		}
		reason = fmt.Sprintf("it is absent from %s, or not whole there", at.Repository)
	}
	return reason, nil
}

// MayMirror reports whether a repository may be the mirror of one with a path: below any path, and with
// components joined, see Options.MaxNestedPaths.
func MayMirror(repository, path string) bool {
	joined := strings.NewReplacer("/", "-")
	return strings.HasSuffix("-"+joined.Replace(repository), "-"+joined.Replace(path))
}

// complete returns fs.ErrNotExist unless a repository has an image with all that is below it, on the
// platforms that were mirrored.
func (p *Present) complete(ctx context.Context, repository, ref string, platforms []imageset.OSArch) error {
	w := &walk{
		seen: map[digest.Digest]bool{}, platforms: platforms, found: map[string]bool{},
		fetch: func(ctx context.Context, ref string) (ocispec.Descriptor, []byte, error) {
			return p.read(ctx, repository, ref)
		},
	}
	_, err := w.manifest(ctx, ref, 0)
	return err
}

// ViewOrigin returns what a run records of the tag of a view of a catalog, so that there are cluster
// resources for it, with a name of the CatalogSource. No cluster asks for the original and gets the view.
func ViewOrigin(original string, view digest.Digest, source string) (origin string, about json.RawMessage, err error) {
	origin = "view of " + original
	about, err = json.Marshal(mirroredImage{Type: plan.CatalogView, Origin: origin, Digest: view, Names: resources.Names{Source: source}})
	return origin, about, err
}

// IsCatalog reports whether what a run recorded of a tag is that it is an operator catalog, or a view
// of one.
func IsCatalog(about json.RawMessage) bool {
	var i mirroredImage
	return json.Unmarshal(about, &i) == nil && (i.Type == plan.OperatorCatalog || i.Type == plan.CatalogView)
}

// IsView reports whether what a run recorded of a tag is that it is a view of a catalog.
func IsView(about json.RawMessage) bool {
	var i mirroredImage
	return json.Unmarshal(about, &i) == nil && i.Type == plan.CatalogView
}
