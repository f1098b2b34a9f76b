package catalog

import (
	"context"
	"fmt"
	"io/fs"

	"github.com/mirror-appliance/appliance/mirror/operator"
)

// imagesFile is beside the files of a catalog, and has the images of all its bundles: reading them
// takes as long as indexing the catalog does.
const imagesFile = "catalog-images"

// imagesVersion changes with what imagesFile has.
const imagesVersion = "3"

// bundleImages lists the images of the bundles of a catalog.
type bundleImages struct {
	index   *operator.Index
	content fs.FS
	file    string
}

// bundleImage is an image of a bundle. One with a Fault cannot be mirrored.
type bundleImage struct{ Package, Bundle, Image, Fault string }

// list returns the images of the bundles of some packages, or of all.
func (b *bundleImages) list(ctx context.Context, packages []string) ([]bundleImage, error) {
	if len(packages) > 0 {
		return b.read(ctx, packages)
	}
	if kept := readImages(b.file); kept != nil {
		return kept, nil
	}
	all, err := b.read(ctx, nil)
	if err == nil {
		err = writeImages(b.file, all)
	}
	return all, err
}

// readImages returns the images in a file, nil if there are none that can be relied on.
func readImages(name string) []bundleImage { return readKept[[]bundleImage](name, imagesVersion) }

func writeImages(name string, all []bundleImage) error {
	if err := writeKept(name, imagesVersion, all); err != nil {
		return fmt.Errorf("keep the images of a catalog: %w", err)
	}
	return nil
}

func (b *bundleImages) read(ctx context.Context, packages []string) ([]bundleImage, error) {
	found, err := b.index.Images(ctx, b.content, packages...)
	var all []bundleImage
	for _, i := range found {
		one := bundleImage{Package: i.Package, Bundle: i.Bundle, Image: i.Image}
		if i.Fault != nil {
			one.Fault = i.Fault.Error()
		}
		all = append(all, one)
	}
	return all, err
}
