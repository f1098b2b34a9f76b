package imageset

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	masterminds "github.com/Masterminds/semver/v3"
	"github.com/blang/semver/v4"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// maxArchiveSize is a PiB, more than any file system has in a file.
const maxArchiveSize = 1 << 20

// check checks what the types of the keys do not show.
func (d *decoder) check(c *Config) {
	d.v1 = c.V1
	if c.ArchiveSize < 0 {
		d.at("archiveSize", "leave archiveSize out for the default, 500", "archiveSize must not be negative")
	}
	if c.ArchiveSize > maxArchiveSize {
		d.at("archiveSize", "it is a number of GiB, and leaving it out means 500", "archiveSize must not be more than %d", maxArchiveSize)
	}
	if !c.V1 && c.APIVersion != apiVersion2 {
		d.warn(0, "apiVersion is %q; the file is read as mirror.openshift.io/v2alpha1", c.APIVersion)
	}
	d.checkPlatform(&c.Mirror.Platform)
	d.checkOperators(c.Mirror.Operators)
	d.checkAdditional(c.Mirror.AdditionalImages)
	d.checkHelm(c.Mirror.Helm)
	for i, b := range c.Mirror.BlockedImages {
		path := fmt.Sprintf("mirror.blockedImages[%d]", i)
		if _, err := regexp.Compile(b.Name); err != nil {
			d.at(path, "blocked images are RE2 regular expressions: https://github.com/google/re2/wiki/Syntax",
				"blocked image %q: invalid regular expression: %v", b.Name, err)
		}
		if b.Name == "" {
			d.at(path, "write name: and a regular expression, or remove the entry",
				"a blocked image without name would block every image")
		}
	}
	if len(c.Mirror.Samples) > 0 {
		d.warn(d.Lines["mirror.samples"], "samples are accepted and have no effect")
	}
}

// at reports a problem at the line of path, or of the nearest key above it that is in the file.
func (d *decoder) at(path, do, format string, args ...any) {
	d.problem(d.LineOf(path), do, format, args...)
}

func (d *decoder) inAdditional(path, do, format string, args ...any) {
	d.additional++
	d.at(path, do, format, args...)
}

func (d *decoder) checkPlatform(p *Platform) {
	const path = "mirror.platform"
	names := map[string]bool{}
	for i, ch := range p.Channels {
		at := fmt.Sprintf("%s.channels[%d]", path, i)
		if ch.Name == "" {
			d.at(at, "write name: stable-4.18, for example", "a channel without name")
		}
		if names[ch.Name] {
			d.at(at, "keep one of them", "release channel %q: duplicate found in configuration", ch.Name)
		}
		names[ch.Name] = true
		d.channelType(at, &p.Channels[i])
		d.checkRange(at, "release channel "+fmt.Sprintf("%q", ch.Name), ch.MinVersion, ch.MaxVersion)
	}
	if len(p.Platforms) > 0 && len(p.Architectures) > 0 {
		d.at(path+".platforms", "keep one of them",
			"platform.platforms and platform.architectures cannot be used together")
	}
	d.checkOSArch(path, p.Platforms)
	for i, a := range p.Architectures {
		if !slices.Contains(Architectures(), a) {
			d.at(fmt.Sprintf("%s.architectures[%d]", path, i), "",
				"architecture %q is not one of %s", a, strings.Join(Architectures(), ", "))
		}
	}
	if p.Release != "" {
		if _, err := ParseReference(p.Release); err != nil {
			d.at(path+".release", referenceHint, "platform.release: %v", err)
		}
		if len(p.Channels) > 0 {
			d.warn(d.Lines[path+".release"], "platform.release is given, so the channels are ignored")
		}
	}
	p.Architectures = unique(p.Architectures)
	if len(p.Channels) > 0 && len(p.Architectures) == 0 {
		p.Architectures = []string{"amd64"}
		if len(p.Platforms) > 0 {
			p.Architectures[0] = "multi" // a list, of which some members are copied
		}
	}
}

// Architectures are the architectures that update graphs know.
func Architectures() []string { return []string{"amd64", "arm64", "s390x", "ppc64le", "multi"} }

// channelType returns OCP for every text but okd, as oc-mirror does.
func (d *decoder) channelType(at string, c *Channel) {
	switch c.Type {
	case OKD:
		return
	case OCP, "":
	default:
		d.warn(d.LineOf(at+".type"), "channel type %q is unknown; ocp is meant", c.Type)
	}
	c.Type = OCP
}

func (d *decoder) checkRange(at, what, lowest, highest string) {
	low, okLow := d.checkVersion(at+".minVersion", what, "minVersion", lowest)
	high, okHigh := d.checkVersion(at+".maxVersion", what, "maxVersion", highest)
	if okLow && okHigh && low.GT(high) {
		d.at(at+".minVersion", "swap them", "%s: minVersion %s is above maxVersion %s", what, lowest, highest)
	}
}

func (d *decoder) checkVersion(at, what, key, v string) (semver.Version, bool) {
	if v == "" {
		return semver.Version{}, false
	}
	parsed, err := semver.Parse(v)
	if err != nil {
		d.at(at, "write major.minor.patch, like 4.18.2",
			"%s: %s %q must respect semantic versioning notation", what, key, v)
		return semver.Version{}, false
	}
	return parsed, true
}

// checkBounds checks a range of versions of operators, whose bounds may be shorter than versions:
// 4.12, v1.2.0 and 1 are bounds.
func (d *decoder) checkBounds(at, what, lowest, highest string) {
	var versions [2]*masterminds.Version
	for i, bound := range []struct{ key, text string }{{"minVersion", lowest}, {"maxVersion", highest}} {
		if bound.text == "" {
			continue
		}
		v, err := masterminds.NewVersion(bound.text)
		if err != nil {
			d.at(at+"."+bound.key, "write numbers with dots, like 4.18.2 or 4.18",
				"%s: %s %q must respect semantic versioning notation", what, bound.key, bound.text)
		}
		versions[i] = v
	}
	if versions[0] == nil || versions[1] == nil || !versions[0].GreaterThan(versions[1]) {
		return
	}
	// A maximum of one or two numbers takes in all that begins with it: 4.12.3 is below 4.12.
	upTo, err := masterminds.NewConstraint("<=" + highest)
	if err != nil || !upTo.Check(versions[0]) {
		d.at(at+".minVersion", "swap them", "%s: minVersion %s is above maxVersion %s", what, lowest, highest)
	}
}

func (d *decoder) checkOSArch(path string, list []OSArch) {
	for i, p := range list {
		if p.OS == "" || p.Architecture == "" {
			d.at(fmt.Sprintf("%s.platforms[%d]", path, i), "write {os: linux, architecture: amd64}, for example",
				"a platform needs both os and architecture")
		}
	}
}

func (d *decoder) checkAdditional(images []AdditionalImage) {
	for i, img := range images {
		at := fmt.Sprintf("mirror.additionalImages[%d]", i)
		d.checkOSArch(at, img.Platforms)
		if img.Name == "" {
			d.at(at, "write name: host/path:tag", "an additional image without name")
			continue
		}
		ref, err := ParseReference(img.Name)
		switch {
		case err != nil:
			d.inAdditional(at+".name", referenceHint, "additional image %v", err)
		case ref.Tag == "" && strings.HasPrefix(ref.Digest.String(), "sha512:") && img.TargetTag == "":
			d.inAdditional(at+".name", "give it a targetTag",
				"additional image %s: its digest is too long to become its tag", img.Name)
		case img.TargetRepo == "" && !image.ValidRepository(ref.DestinationPath()):
			d.inAdditional(at+".name", "give it a targetRepo",
				"additional image %s: its directory cannot be the name of a repository", img.Name)
		}
		if img.TargetRepo != "" && !image.ValidRepository(img.TargetRepo) {
			d.inAdditional(at+".targetRepo", "write path elements in lower case, without host, tag or digest",
				"invalid targetRepo %q", img.TargetRepo)
		}
		if img.TargetTag != "" && image.CheckTag(img.TargetTag) != nil {
			d.inAdditional(at+".targetTag", "a tag has letters, digits, _ . - and at most 128 of them",
				"invalid targetTag %q", img.TargetTag)
		}
	}
}

func (d *decoder) checkHelm(h Helm) {
	for i, r := range h.Repositories {
		at := fmt.Sprintf("mirror.helm.repositories[%d]", i)
		if r.URL == "" {
			d.at(at, "write url: https://…/", "a Helm repository without url")
		}
		for j, c := range r.Charts {
			if c.Name == "" {
				d.at(fmt.Sprintf("%s.charts[%d]", at, j), "", "a Helm chart without name")
			}
		}
	}
	for i, c := range h.Local {
		if c.Path == "" {
			d.at(fmt.Sprintf("mirror.helm.local[%d]", i),
				"write path: and the chart's file or directory", "a local Helm chart without path")
		}
	}
}

func unique(in []string) []string {
	var out []string
	for _, s := range in {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

func (d *decoder) checkOperators(operators []Operator) {
	seen, taken := map[string]bool{}, map[string]string{}
	for i, o := range operators {
		at := fmt.Sprintf("mirror.operators[%d]", i)
		if o.Catalog == "" {
			d.at(at, "write catalog: registry.redhat.io/redhat/redhat-operator-index:v4.18, for example", "an operator entry without catalog")
			continue
		}
		if Shown(o.Catalog) != o.Catalog {
			_, err := ParseReference(o.Catalog)
			d.at(at+".catalog", hint.Of(err), "%v", err)
			continue
		}
		if o.TargetTag != "" && image.CheckTag(o.TargetTag) != nil {
			d.at(at+".targetTag", "a tag has letters, digits, _ . - and at most 128 of them", "invalid targetTag %q", o.TargetTag)
		}
		if o.TargetCatalog != "" && !image.ValidRepository(o.TargetCatalog) {
			d.at(at+".targetCatalog", "write path elements in lower case, without host, tag or digest",
				"invalid target path component %q: should not contain a tag or digest", o.TargetCatalog)
		}
		// The same catalog may be listed twice if the two go to different places.
		name := o.Catalog + "\x00" + o.TargetCatalog + "\x00" + o.TargetTag
		if seen[name] {
			d.at(at, "merge the two entries, or give one a targetCatalog or targetTag",
				"catalog %q: duplicate found in configuration", o.Catalog)
		}
		seen[name] = true
		d.checkDestination(at, o, taken)
		if o.SkipDependencies && !d.v1 {
			d.warn(d.Lines[at+".skipDependencies"], "skipDependencies has no effect: dependencies are followed with --follow-dependencies alone")
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
		d.checkBounds(at, what, p.MinVersion, p.MaxVersion)
		d.checkPackageChannels(at, what, p)
		ranged := p.MinVersion != "" || p.MaxVersion != "" || len(p.Channels) > 0
		if len(p.Bundles) > 0 && (ranged || o.Full) {
			d.at(at+".bundles", "name the bundles, or channels and versions",
				"package %q at index [%d] is invalid: mixing both filtering by bundles and filtering by channels or versionRange is not allowed", p.Name, i)
		}
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
		d.checkBounds(at, fmt.Sprintf("%s: channel %q", what, c.Name), c.MinVersion, c.MaxVersion)
	}
	if ranged && (p.MinVersion != "" || p.MaxVersion != "") {
		d.at(at, "keep the versions of the package or those of its channels",
			"%s: mixing both filtering by minVersion/maxVersion and filtering by channel minVersion/maxVersion is not allowed", what)
	}
}
