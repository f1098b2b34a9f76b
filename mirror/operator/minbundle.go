package operator

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// hasMinBundle reports whether the lowest bundle of a package, or of a channel of it, is named.
func hasMinBundle(p imageset.Package) bool {
	return p.MinBundle != "" || slices.ContainsFunc(p.Channels, func(c imageset.PackageChannel) bool { return c.MinBundle != "" })
}

// boundsOf returns the range of a channel: its own, else that of the package.
func (p *part) boundsOf(c channel) (bounds, error) {
	ask := imageset.PackageChannel{MinVersion: p.config.MinVersion, MaxVersion: p.config.MaxVersion, MinBundle: p.config.MinBundle}
	ofChannel := false
	if own := p.channelConfig(c.name); own != nil && (own.MinVersion != "" || own.MaxVersion != "" || own.MinBundle != "") {
		ask, ofChannel = *own, true
	}
	if ask.MinBundle == "" {
		return newBounds(ask.MinVersion, ask.MaxVersion)
	}
	version := p.versions[ask.MinBundle]
	listed := slices.ContainsFunc(c.entries, func(e entry) bool { return e.Name == ask.MinBundle })
	switch {
	case version == nil:
		return bounds{}, hint.New(fmt.Errorf("the package has no bundle %q, which minBundle names", ask.MinBundle), p.bundleNames(nil))
	case ofChannel && !listed:
		return bounds{}, hint.New(fmt.Errorf("it has no bundle %q, which minBundle names", ask.MinBundle), p.bundleNames(&c))
	}
	r, err := newBounds(version.Original(), ask.MaxVersion)
	r.bundle, r.absent = ask.MinBundle, !listed
	return r, err
}

// bundleNames lists the bundles of the package, or only those of a channel, for a hint.
func (p *part) bundleNames(of *channel) string {
	const most = 20
	var names []string
	for _, b := range p.pack.bundles {
		if of == nil || slices.ContainsFunc(of.entries, func(e entry) bool { return e.Name == b.name }) {
			names = append(names, b.name)
		}
	}
	if len(names) == 0 {
		return "it has no bundles"
	}
	if len(names) > most {
		names = append(names[:most:most], "…")
	}
	return "it has " + strings.Join(names, ", ")
}

// lowest is the beginning of a range.
func (b bounds) lowest() string {
	if b.bundle != "" {
		return fmt.Sprintf("bundle %q", b.bundle)
	}
	return "version " + b.min
}
