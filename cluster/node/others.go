package node

import (
	"context"
	"fmt"
	"slices"

	"github.com/mirror-appliance/appliance/internal/finding"
)

// other is what a registry has of an image that nodes get from one before it.
type other struct {
	registry string
	state
	lacks []problem
}

// elsewhere looks at an image at the registries that come after the one that has it: they have to have all of it
// once that one does not answer.
func (c *checker) elsewhere(ctx context.Context, s *state, places []place) {
	looked := append([]string{s.at.registry}, c.down...)
	for n, at := range places {
		if slices.Contains(looked, at.registry) {
			continue
		}
		looked = append(looked, at.registry)
		same := slices.DeleteFunc(slices.Clone(places[n:]), func(p place) bool { return p.registry != at.registry })
		s.others = append(s.others, c.other(ctx, s, same))
	}
}

// other looks at an image at one registry, in each place that nodes ask there.
func (c *checker) other(ctx context.Context, s *state, places []place) *other {
	o := &other{registry: places[0].registry, state: state{wanted: s.wanted}}
	for n, at := range places {
		m, err := c.manifest(ctx, at, s.ref.Digest().String())
		if err != nil && n < len(places)-1 {
			continue
		}
		if err != nil {
			o.lack(fmt.Sprintf("%s: %s", s.name, err))
			return o
		}
		o.at, o.top = at, m
		c.whole(ctx, &o.state, m)
		break
	}
	for _, p := range slices.Concat(o.missing, o.refused) {
		o.lack(p.text)
	}
	if o.signed < s.signed && len(o.lacks) == 0 {
		o.lack(fmt.Sprintf("%s: %s has the signatures of %d manifests, and %s of %d", s.name, o.at, o.signed, s.at, s.signed))
	}
	for _, arch := range o.sparse {
		if !slices.Contains(s.sparse, arch) {
			o.lack(fmt.Sprintf("%s: %s lacks the image for %s, which %s has", s.name, o.at, arch, s.at))
		}
	}
	return o
}

func (o *other) lack(text string) {
	o.lacks = append(o.lacks, problem{text, "nodes that ask " + o.registry + " while the mirrors before it do not answer would not get it: mirror it there too"})
}

// tellOthers tells of each registry behind the first what it has of a release.
func (c *checker) tellOthers(p *payload, states []*state) {
	var registries []string
	found := map[string][]*other{}
	for _, s := range states {
		for _, o := range s.others {
			if found[o.registry] == nil {
				registries = append(registries, o.registry)
			}
			found[o.registry] = append(found[o.registry], o)
		}
	}
	for _, registry := range registries {
		var lacks []problem
		manifests, layers := 0, 0
		for _, o := range found[registry] {
			lacks = append(lacks, o.lacks...)
			manifests, layers = manifests+o.manifests, layers+o.layers
		}
		if c.problems("images", p, finding.Warning, lacks) {
			c.tell(finding.OK, "images", p.name, fmt.Sprintf("%d manifests and their %d layers are at %s too", manifests, layers, registry), "")
		}
	}
}
