package imageset

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/yamlkeys"
)

// DecodePackages decodes the packages of an operator entry that is in another document than a
// configuration, with the grammar that they have there.
func DecodePackages(d *yamlkeys.Decoder, n *yaml.Node, path string) []Package {
	var of struct{ Packages []Package }
	lenient, unknown := d.Lenient, d.UnknownHint
	d.Lenient, d.UnknownHint = true, unknownHint
	d.Value(n, path, yamlkeys.Fields(&of)[0])
	d.Lenient, d.UnknownHint = lenient, unknown
	return of.Packages
}

// CheckFilter adds to the problems of a document what is wrong with an operator entry at a path of
// it, as Parse does for those of a configuration.
func CheckFilter(d *yamlkeys.Decoder, at string, o Operator) {
	c := &decoder{Decoder: *d}
	c.checkPackages(at, o)
	for i, p := range o.Packages {
		ranged := p.MinVersion != "" || p.MaxVersion != ""
		for _, ch := range p.Channels {
			ranged = ranged || ch.MinVersion != "" || ch.MaxVersion != ""
		}
		if o.Full && ranged {
			c.at(fmt.Sprintf("%s.packages[%d]", at, i), "leave full out, or the versions",
				"operator %q: full takes all versions, so that minVersion and maxVersion have no place", p.Name)
		}
	}
	d.Problems = c.Problems
}
