package operator

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
)

// Minor is a minor version of OpenShift.
type Minor struct{ Major, Minor uint64 }

// String returns it as 4.18.
func (m Minor) String() string { return fmt.Sprintf("%d.%d", m.Major, m.Minor) }

// Less reports whether it is before another one.
func (m Minor) Less(other Minor) bool {
	return m.Major < other.Major || m.Major == other.Major && m.Minor < other.Minor
}

// parseMinor reads 4.18, v4.18 or 4.18.3.
func parseMinor(text string) (m Minor, err error) {
	parts := strings.Split(strings.TrimPrefix(strings.TrimSpace(text), "v"), ".")
	if len(parts) < 2 {
		return m, fmt.Errorf("%q is no version of OpenShift", text)
	}
	m.Major, err = strconv.ParseUint(parts[0], 10, 32)
	if err == nil {
		m.Minor, err = strconv.ParseUint(parts[1], 10, 32)
	}
	if err != nil {
		return m, fmt.Errorf("%q is no version of OpenShift", text)
	}
	return m, nil
}

// Range is which versions of OpenShift a bundle names as those that it is for.
type Range struct {
	// Max are the values of olm.maxOpenShiftVersion: OLM keeps a cluster below the next version. More
	// than one is not valid.
	Max []string
	// Versions is com.redhat.openshift.versions: v4.12, v4.12-v4.16 or =v4.14.
	Versions string
}

// Allows reports whether a bundle is for a version. An error says that it is not known.
func (r Range) Allows(v Minor) (bool, error) {
	if len(r.Max) > 1 {
		return false, fmt.Errorf("it has %d properties olm.maxOpenShiftVersion", len(r.Max))
	}
	for _, text := range r.Max {
		most, err := parseMinor(text)
		if err != nil {
			return false, fmt.Errorf("olm.maxOpenShiftVersion: %w", err)
		}
		if most.Less(v) {
			return false, nil
		}
	}
	if r.Versions == "" {
		return true, nil
	}
	text, exactly := strings.CutPrefix(strings.TrimSpace(r.Versions), "=")
	least, most, bounded := strings.Cut(text, "-")
	least, _, _ = strings.Cut(least, ",") // v4.5,v4.6 is from 4.5 on
	low, err := parseMinor(least)
	if err != nil {
		return false, fmt.Errorf("com.redhat.openshift.versions: %w", err)
	}
	high := low
	if bounded {
		if high, err = parseMinor(most); err != nil {
			return false, fmt.Errorf("com.redhat.openshift.versions: %w", err)
		}
	}
	return !v.Less(low) && (!exactly && !bounded || !high.Less(v)), nil
}

// Offer is what a catalog has of a package, for clusters that have installed one of its bundles.
type Offer struct {
	DefaultChannel string
	Channels       []Channel
	Bundles        map[string]OfferedBundle // by name
	Deprecations   []Deprecation
}

// OfferedBundle is a bundle of an Offer.
type OfferedBundle struct {
	Version string
	Range   Range
	Images  []string // that it needs
	// Requires is the kind of a dependency on other bundles, "" for none.
	Requires string
	Fault    string // for which it cannot be installed from a mirror, "" for none
}

// Deprecation is what a catalog says of a package, a channel or a bundle.
type Deprecation struct {
	Schema  string // olm.package, olm.channel or olm.bundle
	Name    string
	Message string
}

// Offer returns what the catalog has of a package, nil if it has nothing.
func (x *Index) Offer(ctx context.Context, files fs.FS, name string) (*Offer, error) {
	p := x.pack(name)
	if p == nil {
		return nil, nil
	}
	o := &Offer{Bundles: map[string]OfferedBundle{}}
	for _, b := range p.blobs {
		o.DefaultChannel = b.defaultChannel
	}
	for _, c := range p.channels {
		one := Channel{Name: c.name}
		for _, e := range c.entries {
			one.Entries = append(one.Entries, Entry{e.Name, e.Replaces, e.SkipRange, e.Skips})
		}
		o.Channels = append(o.Channels, one)
	}
	r := x.reader(files)
	defer r.close()
	for _, b := range p.bundles {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		offered, err := offeredBundle(r, p.name, b)
		if err != nil {
			return nil, fmt.Errorf("read bundle %q of package %q: %w", b.name, p.name, err)
		}
		o.Bundles[b.name] = offered
	}
	for _, d := range p.deprecations {
		some, err := messages(r, d.at)
		if err != nil {
			return nil, fmt.Errorf("read what is deprecated of package %q: %w", p.name, err)
		}
		o.Deprecations = append(o.Deprecations, some...)
	}
	return o, nil
}

func offeredBundle(r *reader, pkg string, b bundle) (o OfferedBundle, err error) {
	o.Version = b.version
	images, _, err := bundleImages(r, pkg, b)
	if err != nil {
		return o, err
	}
	var fault error
	for _, i := range images {
		o.Images = append(o.Images, i.Image)
		fault = errors.Join(fault, i.Fault)
	}
	if fault != nil {
		o.Fault = fault.Error()
	}
	raw, err := r.read(b.at)
	if err != nil {
		return o, err
	}
	eachProperty(raw, func(kind string, value []byte) {
		switch kind {
		case "olm.maxOpenShiftVersion":
			o.Range.Max = append(o.Range.Max, strings.Trim(string(bytes.TrimSpace(value)), `"`))
		case "olm.package.required", "olm.gvk.required", "olm.constraint":
			o.Requires = kind
		case "olm.csv.metadata":
			o.Range.annotated(value)
		case "olm.bundle.object":
			if object, err := base64.StdEncoding.DecodeString(stringAt(value, "data")); err == nil {
				var csv struct {
					Kind     string
					Metadata json.RawMessage
				}
				if json.Unmarshal(object, &csv) == nil && csv.Kind == "ClusterServiceVersion" {
					o.Range.annotated(csv.Metadata)
				}
			}
		}
	})
	return o, nil
}

// annotated reads com.redhat.openshift.versions of an object with annotations.
func (r *Range) annotated(text []byte) {
	var of struct{ Annotations map[string]string }
	if json.Unmarshal(text, &of) == nil && of.Annotations["com.redhat.openshift.versions"] != "" {
		r.Versions = of.Annotations["com.redhat.openshift.versions"]
	}
}

func messages(r *reader, at place) (all []Deprecation, err error) {
	raw, err := r.read(at)
	if err != nil {
		return nil, err
	}
	var v struct {
		Entries []struct {
			Reference struct{ Schema, Name string }
			Message   string
		}
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return nil, err
	}
	for _, e := range v.Entries {
		all = append(all, Deprecation{e.Reference.Schema, e.Reference.Name, e.Message})
	}
	return all, nil
}

// Next returns the bundles of a channel to which OLM updates directly from one of a version, which need not be
// in the channel any more.
func (c Channel) Next(name, version string) (all []string) {
	for _, e := range c.Entries {
		in := e.SkipRange != "" && inRange(version, e.SkipRange)
		if e.Name != name && (e.Replaces == name || slices.Contains(e.Skips, name) || in) {
			all = append(all, e.Name)
		}
	}
	return all
}
