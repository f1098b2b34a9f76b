package operator

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// RelatedImage is an image that a bundle needs. An image that cannot be mirrored has a Fault: its
// bundle cannot be complete.
type RelatedImage struct {
	Package, Bundle, Version string
	Name                     string // as the bundle calls it, often ""
	Image                    string
	IsBundle                 bool // the image of the bundle itself
	Fault                    error
}

// Images returns the images that the bundles need, in the order of the bundles, each once for a
// bundle. It adds a bundle's own image where the bundle does not list it, with a warning.
func (s *Selection) Images(ctx context.Context, files fs.FS) ([]RelatedImage, []Warning, error) {
	r := s.index.reader(files)
	defer r.close()
	var images []RelatedImage
	var warnings []Warning
	for _, p := range s.parts {
		for _, b := range p.bundles {
			if err := ctx.Err(); err != nil {
				return nil, nil, err
			}
			found, listed, err := bundleImages(r, p.pack.name, b)
			if err != nil {
				return nil, nil, fmt.Errorf("read bundle %q of package %q: %w", b.name, p.pack.name, err)
			}
			images = append(images, found...)
			if !listed {
				warnings = append(warnings, Warning{Package: p.pack.name, Bundle: b.name, Version: b.version,
					Text: fmt.Sprintf("bundle %q of package %q does not list its own image among its relatedImages; it is mirrored all the same", b.name, p.pack.name)})
			}
		}
	}
	return images, warnings, nil
}

// Images returns the images that each bundle of some packages needs, also of those that no channel
// has, for a selection of what is there. No packages means all. Packages that are not in the catalog
// have none.
func (x *Index) Images(ctx context.Context, files fs.FS, packages ...string) ([]RelatedImage, error) {
	r := x.reader(files)
	defer r.close()
	var images []RelatedImage
	for _, p := range x.packages {
		if len(packages) > 0 && !slices.Contains(packages, p.name) {
			continue
		}
		for _, b := range p.bundles {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			found, _, err := bundleImages(r, p.name, b)
			if err != nil {
				return nil, fmt.Errorf("read bundle %q of package %q: %w", b.name, p.name, err)
			}
			images = append(images, found...)
		}
	}
	return images, nil
}

type bundleProperty struct{ Type string }

// bundleImages returns the images of one bundle, and whether it lists its own.
func bundleImages(r *reader, pkg string, b bundle) (images []RelatedImage, listed bool, err error) {
	raw, err := r.read(b.at)
	if err != nil {
		return nil, false, err
	}
	var v struct {
		Schema, Package, Name, Image string
		RelatedImages                []struct{ Name, Image string }
		Properties                   []bundleProperty
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, false, err
	}
	if v.Schema != "olm.bundle" || v.Package != pkg || v.Name != b.name {
		return nil, false, errChanged(r.index.files[b.at.file])
	}
	seen := map[string]bool{}
	for _, image := range v.RelatedImages {
		if seen[image.Image] {
			continue
		}
		seen[image.Image] = true
		images = append(images, RelatedImage{
			Package: pkg, Bundle: b.name, Version: b.version, Name: image.Name, Image: image.Image,
			IsBundle: image.Image == v.Image, Fault: imageFault(image.Name, image.Image),
		})
	}
	if v.Image == "" && slices.ContainsFunc(v.Properties, func(p bundleProperty) bool { return p.Type == "olm.bundle.object" }) {
		return images, true, nil // it is in the catalog whole
	}
	if v.Image == "" {
		return append(images, RelatedImage{Package: pkg, Bundle: b.name, Version: b.version, IsBundle: true,
			Fault: fmt.Errorf("bundle %q of package %q has no image, and OLM refuses a whole catalog for that", b.name, pkg)}), true, nil
	}
	if seen[v.Image] {
		return images, true, nil
	}
	return append(images, RelatedImage{
		Package: pkg, Bundle: b.name, Version: b.version, Image: v.Image, IsBundle: true, Fault: imageFault("", v.Image),
	}), false, nil
}

// imageFault returns the reason that an image cannot be mirrored, nil if it can be.
func imageFault(name, image string) error {
	if image == "" {
		return fmt.Errorf("related image %q has no reference", name)
	}
	ref, err := imageset.ParseReference(image)
	if err == nil && ref.Transport == "oci" {
		err = errors.New("'oci' is not supported in operator catalogs")
	}
	if err != nil {
		return fmt.Errorf("invalid image %q: %w", image, err)
	}
	return nil
}
