package release

import (
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

// OfV1 is a payload in an archive of oc-mirror v1. Its components are those that it names itself:
// version 1 tags a component that several releases have for one of them, and under one of its
// names.
type OfV1 struct {
	Reference imageset.Reference // by digest
	Tag       string             // such as 4.18.2-x86_64
}

func (c *Collector) payloadsV1() (all []*plan.Image) {
	for _, r := range c.OfV1 {
		all = append(all, c.payload(r.Reference.String(), r.Reference, r.Tag, c.Config.File))
	}
	return all
}
