package catalog

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// Package is a package of a catalog, as it is listed.
type Package struct {
	Name           string    `json:"name"`
	DisplayName    string    `json:"displayName,omitempty"`
	DefaultChannel string    `json:"defaultChannel"`
	Channels       []Channel `json:"channels"`
}

// Channel is a channel of a package. Without one head it has none.
type Channel struct {
	Name     string   `json:"name"`
	Head     string   `json:"head"`
	Versions []string `json:"versions"` // the newest last
}

// Packages returns the packages of a selection, without their display names.
func Packages(s *operator.Selection) []Package {
	versions := map[[2]string]string{}
	for _, b := range s.Bundles {
		versions[[2]string{b.Package, b.Name}] = b.Version
	}
	var all []Package
	for _, p := range s.Packages {
		listed := Package{Name: p.Name, DefaultChannel: p.DefaultChannel}
		for _, c := range p.Channels {
			channel := Channel{Name: c.Name, Head: c.Head}
			for _, e := range c.Entries {
				if v := versions[[2]string{p.Name, e.Name}]; v != "" {
					channel.Versions = append(channel.Versions, v)
				}
			}
			slices.SortFunc(channel.Versions, CompareVersions)
			listed.Channels = append(listed.Channels, channel)
		}
		all = append(all, listed)
	}
	return all
}

// CompareVersions orders versions by what they mean, and those that are none before them.
func CompareVersions(a, b string) int {
	x, errX := semver.NewVersion(a)
	y, errY := semver.NewVersion(b)
	switch {
	case errX == nil && errY == nil:
		return cmp.Or(x.Compare(y), strings.Compare(a, b))
	case errX == nil:
		return 1
	case errY == nil:
		return -1
	}
	return strings.Compare(a, b)
}

// Content is what a catalog has, for an operator entry that asks for it.
type Content struct {
	Packages []Package `json:"packages"`
	Images   []string  `json:"images"` // that its bundles need
	// Unasked names what Ask of the packages does not select of the catalog itself.
	Unasked []string `json:"unasked,omitempty"`
}

// Read returns what the catalog in an image has. It works in dir.
func Read(ctx context.Context, source Source, ref, dir string) (*Content, error) {
	unpacked, err := unpack(ctx, source, ref, dir)
	if err != nil {
		return nil, err
	}
	images, err := unpacked.list(ctx, nil)
	if err != nil {
		return nil, err
	}
	c := &Content{Packages: []Package{}, Images: []string{}}
	for _, i := range images {
		c.Images = append(c.Images, i.Image)
	}
	slices.Sort(c.Images)
	c.Images = slices.Compact(c.Images)
	if len(unpacked.index.Packages()) == 0 {
		return c, nil
	}
	whole, err := unpacked.index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		return nil, err
	}
	c.Packages = Packages(whole)
	c.Unasked = unasked(unpacked.index, whole, Ask(c.Packages))
	return c, nil
}

// Ask returns the packages of an operator entry that asks for the versions of some packages: of each
// channel from the lowest to the highest. The default channel is always named, since the catalog that
// the entry is about may have another.
func Ask(packages []Package) (all []imageset.Package) {
	for _, p := range packages {
		ask := imageset.Package{Name: p.Name, DefaultChannel: p.DefaultChannel}
		for _, c := range p.Channels {
			channel := imageset.PackageChannel{Name: c.Name}
			if n := len(c.Versions); n > 0 {
				channel.MinVersion, channel.MaxVersion = c.Versions[0], c.Versions[n-1]
			}
			ask.Channels = append(ask.Channels, channel)
		}
		all = append(all, ask)
	}
	return all
}

// unasked names what packages of an entry do not select of the catalog that they were made of, such as
// a version that the upgrade path to the head does not lead through.
func unasked(index *operator.Index, whole *operator.Selection, ask []imageset.Package) (all []string) {
	for n, p := range whole.Packages {
		s, err := index.Select(imageset.Operator{Packages: ask[n : n+1]}, nil)
		if err != nil {
			all = append(all, fmt.Sprintf("package %s: %v", p.Name, err))
			continue
		}
		missing := entries(p)
		for _, selected := range s.Packages {
			for name := range entries(selected) {
				delete(missing, name)
			}
		}
		all = append(all, slices.Sorted(maps.Keys(missing))...)
	}
	return all
}

// entries names the bundles in the channels of a package.
func entries(p operator.Package) map[string]bool {
	all := map[string]bool{}
	for _, c := range p.Channels {
		for _, e := range c.Entries {
			all[fmt.Sprintf("bundle %s in channel %s of package %s", e.Name, c.Name, p.Name)] = true
		}
	}
	return all
}

// unpack reads the catalog in an image, with its files in dir.
func unpack(ctx context.Context, source Source, ref, dir string) (*bundleImages, error) {
	c, err := Find(ctx, source, ref)
	if err != nil {
		return nil, err
	}
	files, err := c.Extract(ctx, dir)
	if err != nil {
		return nil, err
	}
	index, content, err := readFiles(ctx, files)
	return &bundleImages{index, content, filepath.Join(filepath.Dir(files), imagesFile)}, err
}
