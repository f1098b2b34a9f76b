package catalog

import (
	"maps"
	"slices"

	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// chooser selects what an entry asks for. A package that cannot be selected as it is asked for does
// not stop the others.
type chooser struct {
	index *operator.Index
	// lacks reports bundles that are as if they were not there; nil: none.
	lacks func(pkg, bundle string) bool
	// strict leaves out a package too for which OLM would refuse the whole catalog.
	strict bool
}

// unselectable is a package that cannot be selected, and the reason.
type unselectable struct {
	name string
	err  error
}

// whole reports whether an entry is for a catalog as it is.
func whole(ask imageset.Operator) bool { return ask.Full && len(ask.Packages) == 0 }

// choose returns the selection, the entry that it is of, and the packages that are left out of that.
func (c chooser) choose(ask imageset.Operator) (*operator.Selection, imageset.Operator, []unselectable, error) {
	s, err := c.all(ask)
	if err == nil || whole(ask) {
		return s, ask, nil, err
	}
	asked := ask.Packages
	if len(asked) == 0 {
		for _, name := range c.index.Packages() {
			asked = append(asked, imageset.Package{Name: name})
		}
	}
	alone := func(packages ...imageset.Package) error {
		some := ask
		some.Packages = packages
		_, err := c.all(some)
		return err
	}
	var good, bad []imageset.Package
	for _, one := range asked {
		if alone(one) == nil {
			good = append(good, one)
		} else {
			bad = append(bad, one)
		}
	}
	if len(good) == 0 {
		return nil, ask, nil, err
	}
	var failed []unselectable
	ask.Packages = slices.Clone(good)
	for _, one := range bad {
		if err := alone(good[0], one); err != nil {
			failed = append(failed, unselectable{one.Name, err})
		} else { // there is no such package, which is a warning
			ask.Packages = append(ask.Packages, one)
		}
	}
	s, err = c.index.Select(ask, c.lacks)
	return s, ask, failed, err
}

// all selects all that is asked for. Its error may be that of a package that a catalog must not have.
func (c chooser) all(ask imageset.Operator) (*operator.Selection, error) {
	s, err := c.index.Select(ask, c.lacks)
	if err != nil || !c.strict || whole(ask) {
		return s, err
	}
	refused := s.Refused()
	for _, name := range slices.Sorted(maps.Keys(refused)) {
		return nil, refused[name]
	}
	return s, nil
}
