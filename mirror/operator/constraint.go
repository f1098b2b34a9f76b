package operator

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/blang/semver/v4"
)

// gvk is an API: what a bundle provides or requires.
type gvk struct{ Group, Version, Kind string }

func (g gvk) String() string { return g.Kind + "." + g.Version + "." + g.Group }

// constraint is what a bundle requires of another one. As in OLM, one bundle is to meet all of it.
type constraint struct {
	Package *struct{ PackageName, VersionRange string }
	GVK     *gvk
	All     *constraints
	Any     *constraints
	Not     *constraints
	CEL     json.RawMessage
}

type constraints struct{ Constraints []constraint }

// required reads a property; false is one that requires nothing.
func required(p property) (constraint, bool) {
	var c constraint
	var err error
	switch p.kind {
	case "olm.package.required":
		err = json.Unmarshal([]byte(p.value), &c.Package)
	case "olm.gvk.required":
		err = json.Unmarshal([]byte(p.value), &c.GVK)
	case "olm.constraint":
		err = json.Unmarshal([]byte(p.value), &c)
	default:
		return c, false
	}
	if err != nil { // said by String, and met by nothing
		c = constraint{CEL: json.RawMessage(p.value)}
	}
	return c, true
}

// candidate is a bundle that may meet a constraint.
type candidate struct {
	pkg     string
	version string
	apis    map[gvk]bool
}

// met reports whether a bundle meets the constraint. One that cannot be evaluated is not met.
func (c constraint) met(by candidate) bool {
	switch {
	case c.Package != nil:
		return by.pkg == c.Package.PackageName && inRange(by.version, c.Package.VersionRange)
	case c.GVK != nil:
		return by.apis[*c.GVK]
	case c.All != nil:
		for _, each := range c.All.Constraints {
			if !each.met(by) {
				return false
			}
		}
		return len(c.All.Constraints) > 0
	case c.Any != nil:
		for _, each := range c.Any.Constraints {
			if each.met(by) {
				return true
			}
		}
	case c.Not != nil:
		for _, each := range c.Not.Constraints {
			if each.met(by) {
				return false
			}
		}
		return c.known()
	}
	return false
}

// known reports whether the constraint can be evaluated here: an expression in CEL cannot.
func (c constraint) known() bool {
	known := c.Package != nil || c.GVK != nil
	for _, list := range []*constraints{c.All, c.Any, c.Not} {
		if list == nil {
			continue
		}
		known = true
		for _, each := range list.Constraints {
			if !each.known() {
				return false
			}
		}
	}
	return known
}

// inRange reports whether a version is in a range, as OLM reads it.
func inRange(version, within string) bool {
	v, err := semver.Parse(version)
	if err != nil {
		return false
	}
	in, err := semver.ParseRange(within)
	return err == nil && in(v)
}

// String returns the requirement in words.
func (c constraint) String() string {
	switch {
	case c.Package != nil:
		return fmt.Sprintf("package %q in versions %q", c.Package.PackageName, c.Package.VersionRange)
	case c.GVK != nil:
		return "API " + c.GVK.String()
	case c.All != nil:
		return c.All.join(" and ")
	case c.Any != nil:
		return c.Any.join(" or ")
	case c.Not != nil:
		return "not " + c.Not.join(" or ")
	}
	return "what an expression says that only OLM can evaluate"
}

func (c constraints) join(with string) string {
	var parts []string
	for _, each := range c.Constraints {
		parts = append(parts, each.String())
	}
	return "(" + strings.Join(parts, with) + ")"
}
