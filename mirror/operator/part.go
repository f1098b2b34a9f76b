package operator

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/Masterminds/semver/v3"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// part is what is left of one package.
type part struct {
	selection *Selection
	pack      *pack
	config    imageset.Package
	full      bool // every entry of every channel
	listed    bool // the image set names the package
	asIs      bool // nothing is checked
	lacks     func(pkg, bundle string) bool

	unknown        []string                   // what is to be said of channels that do not exist
	versions       map[string]*semver.Version // of bundles, by name
	channels       []keptChannel
	bundles        []bundle
	defaultChannel string
}

// keptChannel is a channel of which some entries are kept; all of them where kept is nil.
type keptChannel struct {
	channel
	kept  map[string]bool
	asked bounds
}

func (c keptChannel) keep(name string) bool { return c.kept == nil || c.kept[name] }

// choose decides what is left of the package.
func (p *part) choose() error {
	if p.asIs && !p.lacking() {
		p.takeAll()
		return nil
	}
	p.selection.whole = false
	if err := p.readVersions(); err != nil && !p.asIs {
		return err
	}
	candidates := p.candidates()
	if err := p.checkDefault(candidates); err != nil {
		return err
	}
	var emptied []keptChannel
	for _, c := range candidates {
		kept, err := p.choices(c)
		if err != nil {
			return err
		}
		if len(kept.kept) == 0 && !(p.full && len(c.entries) == 0) {
			emptied = append(emptied, kept)
			continue
		}
		p.channels = append(p.channels, kept)
	}
	if err := p.handleEmptied(emptied); err != nil {
		return err
	}
	p.dropLacking()
	p.takeBundles()
	return nil
}

// takeAll keeps the package as it is.
func (p *part) takeAll() {
	for _, c := range p.pack.channels {
		p.channels = append(p.channels, keptChannel{channel: c})
	}
	p.bundles = p.pack.bundles
	p.defaultChannel = p.pack.defaultChannel()
}

func (p *pack) defaultChannel() string {
	if len(p.blobs) == 0 {
		return ""
	}
	return p.blobs[0].defaultChannel
}

// readVersions reads the versions of all bundles of the package, also of those that will not be
// chosen: oc-mirror refuses a catalog for any of them, and an image set that works here is to
// work there.
func (p *part) readVersions() error {
	p.versions = make(map[string]*semver.Version, len(p.pack.bundles))
	var failed error
	for _, b := range p.pack.bundles {
		v, err := semver.StrictNewVersion(b.version)
		switch {
		case b.version == "":
			err = fmt.Errorf("bundle %q in package %q has no package property", b.name, p.pack.name)
		case err != nil:
			err = fmt.Errorf("bundle %q in package %q has version %q: invalid semantic version%s", b.name, p.pack.name, b.version, more(err))
		default:
			p.versions[b.name] = v
		}
		if err != nil && failed == nil {
			failed = hint.New(err, "leave the package out of the image set, or mirror the catalog with full: true and without packages")
		}
	}
	return failed
}

// more returns what an error adds to the words "invalid semantic version".
func more(err error) string {
	if errors.Is(err, semver.ErrInvalidSemVer) {
		return ""
	}
	return ": " + err.Error()
}

// candidates returns the channels that are asked for.
func (p *part) candidates() []channel {
	if len(p.config.Channels) == 0 {
		return p.pack.channels
	}
	var found []channel
	for _, c := range p.pack.channels {
		if p.channelConfig(c.name) != nil {
			found = append(found, c)
		}
	}
	for _, config := range p.config.Channels {
		if !slices.ContainsFunc(found, func(c channel) bool { return c.name == config.Name }) {
			p.unknown = append(p.unknown, fmt.Sprintf("package %q has no channel %q; it has %s", p.pack.name, config.Name, channelNames(p.pack.channels)))
			p.warn(config.Name, "", "%s", p.unknown[len(p.unknown)-1])
		}
	}
	return found
}

func (p *part) channelConfig(name string) *imageset.PackageChannel {
	for i := range p.config.Channels {
		if p.config.Channels[i].Name == name {
			return &p.config.Channels[i]
		}
	}
	return nil
}

func (p *part) warn(channel, bundle, format string, args ...any) {
	w := Warning{Package: p.pack.name, Channel: channel, Bundle: bundle, Text: fmt.Sprintf(format, args...)}
	if v := p.versions[bundle]; v != nil {
		w.Version = v.Original()
	}
	p.selection.warn(w)
}

// checkDefault decides which channel is the default, before any of them may turn out empty.
func (p *part) checkDefault(candidates []channel) error {
	p.defaultChannel = p.pack.defaultChannel()
	want := p.config.DefaultChannel
	has := func(name string) bool {
		return slices.ContainsFunc(candidates, func(c channel) bool { return c.name == name })
	}
	var fault string
	switch {
	case want != "" && len(p.pack.blobs) == 0:
		return nil // the upstream has no olm.package to write it to, and validate says so
	case want != "" && !has(want):
		fault = fmt.Sprintf("specified default channel override %q does not exist in the filtered output", want)
	case want != "":
		p.defaultChannel = want
	case p.listed && p.defaultChannel != "" && !has(p.defaultChannel):
		fault = fmt.Sprintf("the default channel %q was filtered out, a new default channel must be configured for this package", p.defaultChannel)
	}
	if fault == "" {
		return nil
	}
	do := "set defaultChannel to one of " + channelNames(candidates)
	none := len(candidates) == 0
	if none {
		do = "the package has the channels " + channelNames(p.pack.channels)
	}
	err := fmt.Errorf("invalid default channel configuration for package %q: %s", p.pack.name, fault)
	if len(p.unknown) > 0 { // which is more likely what is wrong
		err = fmt.Errorf("%s: %w", strings.Join(p.unknown, "; "), err)
		if do = "correct the name of the channel, or " + do; none {
			do = "correct the name of the channel"
		}
	}
	return hint.New(err, do)
}

func channelNames(list []channel) string {
	var names []string
	for _, c := range list {
		names = append(names, c.name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

// takeBundles keeps the bundles that a kept channel lists.
func (p *part) takeBundles() {
	listed := map[string]bool{}
	for _, c := range p.channels {
		for _, e := range c.entries {
			listed[e.Name] = listed[e.Name] || c.keep(e.Name)
		}
	}
	for _, b := range p.pack.bundles {
		if listed[b.name] || p.asIs && !p.absent(b.name) && p.stray(b.name) {
			p.bundles = append(p.bundles, b)
		}
	}
}

// stray reports whether a bundle is in no channel of the catalog.
func (p *part) stray(name string) bool {
	return !slices.ContainsFunc(p.pack.channels, func(c channel) bool {
		return slices.ContainsFunc(c.entries, func(e entry) bool { return e.Name == name })
	})
}
