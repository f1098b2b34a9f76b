package mirror

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/mirror-appliance/appliance/mirror/helm"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// refuseUnbuilt names the first thing that the configuration asks for and that is not built, before anything is done.
func (e *Engine) refuseUnbuilt() error {
	c := e.o.Config
	m := c.Mirror
	switch {
	case len(m.Operators) > 0:
		return operator.Refuse(c.At("mirror.operators"))
	case len(m.Helm.Repositories) > 0 || len(m.Helm.Local) > 0:
		return helm.Refuse(c.At("mirror.helm"))
	case m.Platform.Graph:
		return e.unbuilt("mirror.platform.graph", "the graph-data image (platform.graph)")
	case m.Platform.KubeVirtContainer:
		return e.unbuilt("mirror.platform.kubeVirtContainer", "platform.kubeVirtContainer")
	case len(m.Platform.Platforms) > 0:
		return e.unbuilt("mirror.platform.platforms", "the selection of platforms out of a release (platform.platforms)")
	}
	if ref, err := imageset.ParseReference(m.Platform.Release); err == nil && ref.Transport != "docker" {
		return e.unbuilt("mirror.platform.release", "mirroring from "+ref.Transport+"://")
	}
	for i, a := range m.AdditionalImages {
		if len(a.Platforms) > 0 {
			return e.unbuilt(fmt.Sprintf("mirror.additionalImages[%d].platforms", i), "the selection of platforms out of an image (platforms)")
		}
		if ref, err := imageset.ParseReference(a.Name); err == nil && ref.Transport != "docker" {
			return e.unbuilt(fmt.Sprintf("mirror.additionalImages[%d].name", i), "mirroring from "+ref.Transport+"://")
		}
	}
	return nil
}

func (e *Engine) unbuilt(key, what string) error {
	return &Error{
		err:  fmt.Errorf("%s: %s is not built yet", e.o.Config.At(key), what),
		hint: "take it out of the file; nothing has been written",
	}
}

// block takes out what blockedImages matches: the origin or the destination.
func (e *Engine) block(p *Plan) error {
	for _, b := range e.o.Config.Mirror.BlockedImages {
		re, err := regexp.Compile(b.Name)
		if err != nil {
			return fmt.Errorf("blocked image %q: %w", b.Name, err)
		}
		p.Images = slices.DeleteFunc(p.Images, func(i *Image) bool {
			return re.MatchString(i.source.String()) || re.MatchString(e.destination(i))
		})
	}
	return nil
}

// collisions refuses two different origins for one destination: which of them ended there would be chance.
func (e *Engine) collisions(p *Plan) error {
	taken := map[string]*Image{}
	var distinct []*Image
	for _, i := range p.Images {
		other, ok := taken[e.destination(i)]
		switch {
		case !ok:
			taken[e.destination(i)] = i
			distinct = append(distinct, i)
		case other.Source() != i.Source():
			return &Error{
				err:  fmt.Errorf("%s (%s) and %s (%s) would both become %s", other.Origin, other.Why, i.Origin, i.Why, e.destination(i)),
				hint: "give one of them another targetRepo or targetTag",
			}
		}
	}
	p.Images = distinct
	return nil
}
