package imageset

import (
	"fmt"

	"github.com/mirror-appliance/appliance/internal/image"
)

func (d *decoder) checkOperators(operators []Operator) {
	seen := map[string]bool{}
	for i, o := range operators {
		at := fmt.Sprintf("mirror.operators[%d]", i)
		if o.Catalog == "" {
			d.at(at, "write catalog: registry.redhat.io/redhat/redhat-operator-index:v4.18, for example", "an operator entry without catalog")
			continue
		}
		if o.TargetCatalog != "" && !image.ValidRepository(o.TargetCatalog) {
			d.at(at+".targetCatalog", "write path elements in lower case, without host, tag or digest",
				"invalid target path component %q: should not contain a tag or digest", o.TargetCatalog)
		}
		// The same catalog may be listed twice if the two go to different places.
		name := o.Catalog + "\x00" + o.TargetCatalog + "\x00" + o.TargetTag
		if seen[name] {
			d.at(at, "merge the two entries, or give one a targetCatalog or targetTag", "catalog %q: duplicate found in configuration", o.Catalog)
		}
		seen[name] = true
		if o.SkipDependencies {
			d.warn(d.Lines[at+".skipDependencies"], "skipDependencies has no effect: dependencies are never followed")
		}
		d.checkOSArch(at, o.Platforms)
		d.checkPackages(at, o)
	}
}

func (d *decoder) checkPackages(at string, o Operator) {
	seen := map[string]bool{}
	for i, p := range o.Packages {
		at := fmt.Sprintf("%s.packages[%d]", at, i)
		what := fmt.Sprintf("catalog %q: operator %q", o.Catalog, p.Name)
		if p.Name == "" {
			d.at(at, "", "catalog %q: a package without name", o.Catalog)
		}
		if seen[p.Name] {
			d.at(at, "merge the two entries", "catalog %q: duplicate package entry %q", o.Catalog, p.Name)
		}
		seen[p.Name] = true
		d.checkRange(at, what, p.MinVersion, p.MaxVersion)
		d.checkPackageChannels(at, what, p)
	}
}

func (d *decoder) checkPackageChannels(at, what string, p Package) {
	seen := map[string]bool{}
	ranged := false
	for i, c := range p.Channels {
		at := fmt.Sprintf("%s.channels[%d]", at, i)
		if seen[c.Name] {
			d.at(at, "merge the two entries", "%s: duplicate channel entry %q", what, c.Name)
		}
		seen[c.Name] = true
		ranged = ranged || c.MinVersion != "" || c.MaxVersion != ""
		d.checkRange(at, fmt.Sprintf("%s: channel %q", what, c.Name), c.MinVersion, c.MaxVersion)
	}
	if ranged && (p.MinVersion != "" || p.MaxVersion != "") {
		d.at(at, "keep the versions of the package or those of its channels",
			"%s: mixing both filtering by minVersion/maxVersion and filtering by channel minVersion/maxVersion is not allowed", what)
	}
}
