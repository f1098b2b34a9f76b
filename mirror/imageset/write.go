package imageset

import (
	"bytes"
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/blang/semver/v4"
	"go.yaml.in/yaml/v3"

	"github.com/mirror-appliance/appliance/internal/plain"
)

// Held is what a registry has, in the words of a configuration.
type Held struct {
	Releases []HeldRelease
	Graph    bool
	Images   []HeldImage
	// Operators are catalogs, with the packages, channels and versions that they have.
	Operators []HeldOperator
	Notes     []string // comments: what could not be told
	// Lacking reports that the registry does not have it: there are no comments about what it has.
	Lacking bool
}

// HeldRelease is a release that a registry has.
type HeldRelease struct {
	Version      semver.Version
	Architecture string
	Channel      string // that led to it; "" if it was mirrored by its name
	OKD          bool
	Payload      string // its reference
}

// HeldImage is an additional image that a registry has.
type HeldImage struct {
	AdditionalImage
	Note string // a comment; may be empty
}

// Write returns an ImageSetConfiguration of what a registry has, the same for the same content.
// What a configuration cannot say, or was not recorded, is in comments.
func Write(h Held) []byte {
	w := &writer{lacking: h.Lacking}
	w.line(0, "kind: %s", imageSetKind)
	w.line(0, "apiVersion: mirror.openshift.io/v2alpha1")
	for _, note := range h.Notes {
		w.comment(0, note)
	}
	before := w.Len()
	w.line(0, "mirror:")
	empty := w.Len()
	w.platform(h)
	w.operators(h.Operators)
	w.images(h.Images)
	if w.Len() == empty {
		w.Truncate(before)
		w.line(0, "mirror: {}")
	}
	return w.Bytes()
}

type writer struct {
	bytes.Buffer
	lacking bool
}

func (w *writer) line(depth int, format string, args ...any) {
	fmt.Fprintf(w, strings.Repeat("  ", depth)+format+"\n", args...)
}

func (w *writer) comment(depth int, text string) { w.line(depth, "# %s", plain.Line(text)) }

// scalar returns a text as YAML.
func scalar(text string) string {
	out, err := yaml.Marshal(text)
	if err != nil { // of text that is not UTF-8
		return fmt.Sprintf("%q", text)
	}
	return strings.TrimSpace(string(out))
}

// channel is a channel with the releases that it led to.
type channel struct {
	name     string
	okd      bool
	releases []HeldRelease
}

func (w *writer) platform(h Held) {
	channels, named, architectures := byChannel(h.Releases)
	switch {
	case len(channels)+len(named) == 0 && !h.Graph:
		return
	case len(channels) == 0 && len(named) == 0:
		w.line(1, "platform:")
	case len(channels) == 0:
		w.line(1, "platform:")
		w.line(2, "release: %s", scalar(named[0].Payload))
		named = named[1:]
	default:
		w.line(1, "platform:")
		w.line(2, "architectures: [%s]", strings.Join(architectures, ", "))
		w.line(2, "channels:")
		for _, c := range channels {
			w.channel(c, architectures)
		}
	}
	for _, r := range named {
		w.comment(2, "not in here: an image set has either channels or one release, and this was mirrored by its name: release: "+r.Payload)
	}
	if h.Graph {
		w.line(2, "graph: true")
	}
}

// byChannel sorts releases into channels, those that were mirrored by name, and architectures.
func byChannel(all []HeldRelease) (channels []channel, named []HeldRelease, architectures []string) {
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b HeldRelease) int {
		return cmp.Or(cmp.Compare(a.Channel, b.Channel), a.Version.Compare(b.Version),
			cmp.Compare(a.Architecture, b.Architecture), cmp.Compare(a.Payload, b.Payload))
	})
	for _, r := range all {
		if r.Channel == "" {
			named = append(named, r)
			continue
		}
		if !slices.Contains(architectures, r.Architecture) {
			architectures = append(architectures, r.Architecture)
		}
		if n := len(channels); n == 0 || channels[n-1].name != r.Channel {
			channels = append(channels, channel{name: r.Channel, okd: r.OKD})
		}
		last := &channels[len(channels)-1]
		last.releases = append(last.releases, r)
	}
	slices.Sort(architectures)
	return channels, named, architectures
}

func (w *writer) channel(c channel, architectures []string) {
	var held []string
	for _, r := range c.releases {
		text := r.Version.String()
		if len(architectures) > 1 {
			text += " (" + r.Architecture + ")"
		}
		held = append(held, text)
	}
	if !w.lacking {
		w.comment(2, "held: "+strings.Join(slices.Compact(held), ", "))
	}
	if beyond := c.beyond(architectures); len(beyond) > 0 && !w.lacking {
		w.comment(2, "it asks for more than is held, since all channels are for all architectures: "+strings.Join(beyond, ", "))
	}
	w.line(2, "- name: %s", scalar(c.name))
	w.line(2, "  minVersion: %s", scalar(c.releases[0].Version.String()))
	w.line(2, "  maxVersion: %s", scalar(c.releases[len(c.releases)-1].Version.String()))
	if c.okd {
		w.line(2, "  type: okd")
	}
}

func (w *writer) images(all []HeldImage) {
	if len(all) == 0 {
		return
	}
	all = slices.Clone(all)
	slices.SortFunc(all, func(a, b HeldImage) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.TargetRepo, b.TargetRepo), cmp.Compare(a.TargetTag, b.TargetTag),
			cmp.Compare(a.Note, b.Note), cmp.Compare(fmt.Sprint(a.Platforms), fmt.Sprint(b.Platforms)))
	})
	// An image that is below several paths is one: the file is given with one path at a time.
	all = slices.CompactFunc(all, func(a, b HeldImage) bool { return reflect.DeepEqual(a, b) })
	w.line(1, "additionalImages:")
	for _, i := range all {
		if i.Note != "" {
			w.comment(1, i.Note)
		}
		w.line(1, "- name: %s", scalar(i.Name))
		w.optional(1, "targetRepo", i.TargetRepo)
		w.optional(1, "targetTag", i.TargetTag)
		w.platforms(i.Platforms)
	}
}
