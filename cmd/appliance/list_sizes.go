package main

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// listedSizes are the sizes of a package's versions.
type listedSizes struct {
	Images   int          `json:"images"` // of all versions
	Bytes    int64        `json:"bytes"`
	Unknown  []string     `json:"unknown,omitempty"`
	Versions []listedSize `json:"versions"` // the newest last
}

type listedSize struct {
	mirror.BundleSize
	Channels []string `json:"channels"`
}

// readSizes reads the sizes of the versions in the channels of a package. unknown is the error of
// images whose sizes are not known.
func readSizes(ctx context.Context, of listedPackage, index *operator.Index, files fs.FS, from *listedFrom) (_ *listedSizes, unknown, err error) {
	whole, err := index.Select(imageset.Operator{Full: true}, nil)
	if err != nil {
		return nil, nil, err
	}
	in := map[string][]string{}
	for _, p := range whole.Packages {
		for _, c := range p.Channels {
			listed := slices.ContainsFunc(of.Channels, func(l catalog.Channel) bool { return l.Name == c.Name })
			for _, e := range c.Entries {
				if p.Name == of.Name && listed {
					in[e.Name] = append(in[e.Name], c.Name)
				}
			}
		}
	}
	related, err := index.Images(ctx, files, of.Name)
	if err != nil {
		return nil, nil, err
	}
	related = slices.DeleteFunc(related, func(r operator.RelatedImage) bool { return in[r.Bundle] == nil })
	each, all, err := mirror.BundleSizes(ctx, from.open, related)
	if err != nil {
		return nil, nil, err
	}
	sizes := &listedSizes{Images: all.Images, Bytes: all.Bytes, Unknown: all.Unknown, Versions: []listedSize{}}
	for _, b := range each {
		sizes.Versions = append(sizes.Versions, listedSize{b, in[b.Bundle]})
	}
	slices.SortStableFunc(sizes.Versions, func(a, b listedSize) int { return catalog.CompareVersions(a.Version, b.Version) })
	if n := len(all.Unknown); n > 0 {
		unknown = hint.New(fmt.Errorf("the sizes are without %s that cannot be read", count(n, "image")),
			"log in to their registries with podman login, or name what has been mirrored with --from")
	}
	return sizes, unknown, nil
}

func printSizes(w io.Writer, s listedSizes) {
	fmt.Fprintln(w, "VERSION\tCHANNELS\tIMAGES\tSIZE")
	for _, v := range s.Versions {
		size := bytesOf(v.Bytes)
		if len(v.Unknown) > 0 {
			size += fmt.Sprintf(" without %d", len(v.Unknown))
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\n", plain.Field(v.Version), plain.Field(strings.Join(v.Channels, ", ")), v.Images, size)
	}
	fmt.Fprintf(w, "all\t\t%d\t%s, with what several have counted once\n", s.Images, bytesOf(s.Bytes))
	for _, u := range s.Unknown {
		fmt.Fprintf(w, "not known: %s\n", plain.Line(u))
	}
}
