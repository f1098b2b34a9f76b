package operator

import (
	"slices"

	"github.com/Masterminds/semver/v3"
)

// start returns the version that a channel begins with of which only the head is asked for; nil where
// that is the head, since no earlier run began with another one, or the channel has gone back since.
func (p *part) start(c channel, head string) *semver.Version {
	from, err := semver.NewVersion(p.selection.starts[p.pack.name][c.name])
	if err != nil || p.versions[head] == nil || p.versions[head].LessThan(from) {
		return nil
	}
	return from
}

// Starts returns the versions that the channels of the selection begin with, by package and channel,
// for the Starts of the next run: a head of today is a version from which clusters must get to the
// head of tomorrow. A channel that is there whole is not among them.
func (s *Selection) Starts() map[string]map[string]string {
	all := map[string]map[string]string{}
	for _, p := range s.parts {
		for _, c := range p.channels {
			version := p.lowest(c)
			if c.kept == nil || p.full || version == nil {
				continue
			}
			if all[p.pack.name] == nil {
				all[p.pack.name] = map[string]string{}
			}
			all[p.pack.name][c.name] = version.Original()
		}
	}
	return all
}

// lowest returns the lowest version of what is kept of a channel. Below the version that it began with
// there may be others, which only the path to a newer one leads through.
func (p *part) lowest(c keptChannel) *semver.Version {
	var versions []*semver.Version
	for _, e := range c.entries {
		if v := p.versions[e.Name]; v != nil && c.keep(e.Name) && (c.asked.from == nil || c.asked.has(v)) {
			versions = append(versions, v)
		}
	}
	if len(versions) == 0 {
		return nil
	}
	return slices.MinFunc(versions, (*semver.Version).Compare)
}
