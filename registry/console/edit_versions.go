package console

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// chosenVersions is a channel of an image set with what there is to choose its versions from: the drawing of
// the channel, and lists of the same releases.
type chosenVersions struct {
	channelPage
	At       int       // the channel's number
	Open     string    // this, and the minor version whose releases are listed, if one was asked for
	Since    time.Time // the graph data is here
	Minors   []string  // the newest first
	Listed   string    // of which minor version Releases are
	Releases []listedRelease
}

// listedRelease is a release of a list.
type listedRelease struct {
	Name string
	Held bool
}

// chosenVersions returns what versions of a channel are chosen from. open is its number in the image set and,
// after a space, the minor version that is opened.
func (v *visit) chosenVersions(c *setChannel, u api.Updates, arch, open string) (*chosenVersions, error) {
	number, minor, _ := strings.Cut(open, " ")
	p := &chosenVersions{Open: open}
	p.channelPage = channelPage{Channel: string(c.Name), Arch: arch, From: string(c.MinVersion), To: string(c.MaxVersion), Minor: minor,
		picks: func(do, what string) string { return do + " " + number + " " + what }}
	var err error
	if p.At, err = strconv.Atoi(number); err != nil {
		return nil, err
	}
	if u.GraphData == nil {
		p.Problem = &problem{v.c.views.text("edit.versions.none"), v.c.views.text("edit.versions.none.hint")}
		return p, nil
	}
	p.Since = u.GraphData.Since
	if err := json.Unmarshal(u.Graph, &p.answer); err != nil {
		return nil, fmt.Errorf("the graph of channel %s: %w", p.Channel, err)
	}
	all := releasedIn(p.answer, u.Listed)
	if len(all) == 0 {
		p.Problem = &problem{v.c.views.text("edit.versions.unknown", p.Channel, arch), v.c.views.text("edit.versions.unknown.hint")}
		return p, nil
	}
	v.findWay(p, all)
	v.draw(&p.channelPage, all, hopsOf(p.answer), nil)
	p.list(all)
	return p, nil
}

// findWay adds the way between the versions of a channel, or why there is none to show.
func (v *visit) findWay(p *chosenVersions, all []released) {
	held := map[string]bool{}
	for _, r := range all {
		held[r.name] = r.held
		if r.held {
			p.Held = append(p.Held, r.name)
		}
	}
	for _, version := range []string{p.From, p.To} {
		if _, ok := held[version]; version != "" && !ok {
			p.Problem = &problem{v.c.views.text("edit.versions.other", version, p.Channel), v.c.views.text("edit.versions.other.hint")}
			return
		}
	}
	switch {
	case p.From == "" || p.To == "" || p.From == p.To:
	case !held[p.From] || !held[p.To]:
		p.Problem = &problem{v.c.views.text("edit.versions.unclear", p.From, p.To), v.c.views.text("edit.versions.unclear.hint")}
	default:
		if p.Way = p.answer.Routes(p.From)[p.To]; len(p.Way) == 0 {
			p.Problem = &problem{v.c.views.text("updates.way.none", p.From, p.To, p.Channel), v.c.views.text("edit.versions.elsewhere")}
		}
	}
}

// list lists the releases of a minor version: the one that is opened, or that of the release to end with, or the
// newest.
func (p *chosenVersions) list(all []released) {
	minors := map[string]string{}
	for _, r := range slices.Backward(all) {
		minors[r.name] = r.minorOf()
		if !slices.Contains(p.Minors, r.minorOf()) {
			p.Minors = append(p.Minors, r.minorOf())
		}
	}
	p.Listed = p.Minors[0]
	for _, minor := range []string{minors[p.To], p.Minor} {
		if slices.Contains(p.Minors, minor) {
			p.Listed = minor
		}
	}
	for _, r := range slices.Backward(all) {
		if r.minorOf() == p.Listed {
			p.Releases = append(p.Releases, listedRelease{r.name, r.held})
		}
	}
}

// chosen returns the changes that make a version of a channel the one to begin or to end with: at is the channel's
// number and the version. The other version goes if it is on the wrong side.
func (v *visit) chosen(do, at string) []api.ImageSetEdit {
	number, version, _ := strings.Cut(at, " ")
	place := "mirror.platform.channels[" + number + "]."
	key, other := place+"minVersion", place+"maxVersion"
	if do == "to" {
		key, other = other, key
	}
	edits := []api.ImageSetEdit{{At: key, Set: jsonOf(version)}}
	was := v.field(fieldText + other)
	if order := compareVersions(version, was); was != "" && (do == "from" && order > 0 || do == "to" && order < 0) {
		edits = append(edits, api.ImageSetEdit{At: other, Set: jsonOf("")})
	}
	return edits
}
