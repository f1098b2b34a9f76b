package operator

import (
	"fmt"
	"slices"
)

// warnLost names each bundle that a channel loses, and what a cluster loses with it. was has the
// entries that were asked for.
func (p *part) warnLost(c keptChannel, was map[string]bool) {
	for _, e := range c.entries {
		if !was[e.Name] || c.keep(e.Name) {
			continue
		}
		reason := "its images are not all there"
		if !p.absent(e.Name) {
			reason = "the upgrade path from it leads through a bundle that is not there, and a channel has one head"
		}
		p.warn(c.name, e.Name, "bundle %q is left out of channel %q of package %q: %s; %s",
			e.Name, c.name, p.pack.name, reason, p.loss(c, e))
	}
	head, before := p.headOf(c), p.headOf(keptChannel{channel: c.channel, kept: was})
	if head != "" && head != before {
		p.warn(c.name, head, "the head of channel %q of package %q is %q instead of %q, until that is complete",
			c.name, p.pack.name, head, before)
	}
}

// loss returns the consequence for a cluster that runs a bundle which is left out.
func (p *part) loss(c keptChannel, e entry) string {
	for _, kept := range c.entries {
		if !c.kept[kept.Name] {
			continue
		}
		if kept.Replaces == e.Name || slices.Contains(kept.Skips, e.Name) || p.inSkipRange(kept.SkipRange, e.Name) {
			return fmt.Sprintf("a cluster that runs it upgrades to %q, but it cannot be installed anew", kept.Name)
		}
	}
	if len(c.kept) == 0 {
		return "nothing of the channel is left, and a cluster that is subscribed to it gets no upgrades"
	}
	if v, head := p.versions[e.Name], p.versions[p.headOf(c)]; v != nil && head != nil && v.GreaterThan(head) {
		return fmt.Sprintf("clusters get no newer version than %s", head.Original())
	}
	return "a cluster that runs it, or an older version, cannot upgrade in this channel"
}

// inSkipRange reports whether a bundle is in a skipRange.
func (p *part) inSkipRange(skipRange, name string) bool {
	v := p.versions[name]
	return skipRange != "" && v != nil && inRange(v.Original(), skipRange)
}
