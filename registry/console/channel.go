package console

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

const channelPath = updatesPath + "/channel"

// tableRows is how many rows a part of the table below a drawing has.
const tableRows = 40

// channelPage is the graph of a channel: all of it, what can be reached from a release, or the ways between two.
type channelPage struct {
	listed
	Channel, Arch, From, To string                       // that were asked for
	Minor                   string                       // the column that is opened
	picks                   func(do, what string) string // in a form: the value of a button in the place of a link
	Archs                   []string
	Channels                []heldChannel
	Held                    []string // versions, the newest first
	Absent                  int      // releases of the channel that are not here
	Drawing                 *drawing
	Collapsed               bool // boxes of the drawing stand for several releases that are here
	Rows                    []graphRow
	Begin, End, Of          int             // of Rows
	Reached                 bool            // what From leads to is shown
	Way                     []graphdata.Hop // from From to To
	Problem                 *problem        // with the releases that were asked for
	Command                 string
	answer                  graphdata.Answer
}

// graphRow is a release, or several that are not here, with its updates; or one that can be reached.
type graphRow struct {
	Version string
	Link    string
	Absent  []string // the first and the last of those that are not here, in the spot of Version
	Of      int      // these
	Next    []string // updates that have no risks, the newest first
	Risky   []string
	Hops    []graphdata.Hop // with a release that was asked for: the best way
	Risks   []string        // names of the way's
}

func (v *visit) channel() error {
	q := v.r.URL.Query()
	p := channelPage{Channel: q.Get("channel"), Arch: q.Get("arch"), From: q.Get("from"), To: q.Get("to"), Minor: q.Get("minor")}
	if p.Channel == "" {
		http.Redirect(v.w, v.r, updatesPath, http.StatusSeeOther)
		return nil
	}
	if err := graphdata.CheckChannel(p.Channel); err != nil {
		return &client.Refused{Status: http.StatusBadRequest, Refusal: api.Refusal{Problem: err.Error(), Hint: v.c.views.text("updates.channel.unknown.hint")}}
	}
	u, err := v.c.api.Updates(v.r.Context(), api.UpdatesRequest{Channel: p.Channel, Arch: p.Arch})
	if err != nil {
		return err
	}
	p.Channels = channelsOf(u.Releases)
	i := slices.IndexFunc(p.Channels, func(c heldChannel) bool { return c.Name == p.Channel })
	if i < 0 {
		return &client.Refused{Status: http.StatusNotFound, Refusal: api.Refusal{
			Problem: v.c.views.text("updates.channel.unknown", p.Channel), Hint: v.c.views.text("updates.channel.unknown.hint")}}
	}
	if p.Archs = p.Channels[i].Archs; !slices.Contains(p.Archs, p.Arch) {
		p.Arch = p.Archs[0]
		if u, err = v.c.api.Updates(v.r.Context(), api.UpdatesRequest{Channel: p.Channel, Arch: p.Arch}); err != nil {
			return err
		}
	}
	if err := json.Unmarshal(u.Graph, &p.answer); err != nil {
		return fmt.Errorf("the graph of channel %s: %w", p.Channel, err)
	}
	v.fill(&p, u.Listed)
	return v.show("updates-channel", "updates", p.Channel, p)
}

// fill computes what a page has of its graph.
func (v *visit) fill(p *channelPage, listed []string) {
	all := releasedIn(p.answer, listed)
	for _, r := range slices.Backward(all) {
		if r.held {
			p.Held = append(p.Held, r.name)
		} else {
			p.Absent++
		}
	}
	p.Command = "appliance updates show --channel " + p.Channel + " --arch " + p.Arch
	var routes map[string][]graphdata.Hop
	hops := hopsOf(p.answer)
	p.Problem = v.wrongIn(p)
	if p.Reached = p.Problem == nil && p.From != ""; p.Reached {
		p.Command += " --from " + p.From
		routes = p.answer.Routes(p.From)
		all = slices.DeleteFunc(all, func(r released) bool { _, ok := routes[r.name]; return !ok })
	}
	if p.Reached && p.To != "" {
		p.Way = routes[p.To]
		if _, ok := routes[p.To]; !ok {
			p.Problem = &problem{v.c.views.text("updates.way.none", p.From, p.To, p.Channel), v.c.views.text("updates.way.none.hint")}
		} else {
			before := onTheWay(hops, p.To)
			all = slices.DeleteFunc(all, func(r released) bool { return !before[r.name] })
		}
	}
	v.draw(p, all, hops, routes)
	table := p.table(all, hops, routes)
	p.Rows, p.Begin, p.End, p.listed = part(v, table, tableRows, channelPath, p.pairs()...)
	p.Of = len(table)
}

// wrongIn returns what is wrong with the releases that were asked for.
func (v *visit) wrongIn(p *channelPage) *problem {
	switch {
	case p.From == "" && p.To != "":
		p.To = ""
	case p.From != "" && !slices.Contains(p.Held, p.From):
		return &problem{v.c.views.text("updates.from.absent", p.From, p.Channel), v.c.views.text("updates.from.absent.hint")}
	case p.To != "" && !slices.Contains(p.Held, p.To):
		return &problem{v.c.views.text("updates.to.absent", p.To, p.Channel), v.c.views.text("updates.to.absent.hint")}
	}
	return nil
}

// pairs are the parameters of the page, for its own links.
func (p *channelPage) pairs(others ...string) []string {
	return append([]string{"channel", p.Channel, "arch", p.Arch, "from", p.From, "to", p.To}, others...)
}

// link leads to the release from which to go, or to which.
func (p *channelPage) link(version string) string {
	switch version {
	case p.From, p.To:
		return ""
	}
	if p.From == "" {
		return address(channelPath, "channel", p.Channel, "arch", p.Arch, "from", version)
	}
	return address(channelPath, "channel", p.Channel, "arch", p.Arch, "from", p.From, "to", version)
}

// draw draws releases with the updates between them: with a release that was asked for alone, the last one of
// the best way to each.
func (v *visit) draw(p *channelPage, all []released, hops []hop, routes map[string][]graphdata.Hop) {
	if len(all) == 0 {
		return
	}
	passed := map[string]bool{p.From: true, p.To: true}
	for _, h := range p.Way {
		passed[h.To] = true
	}
	g := graph{columns: layOut(all, passed, p.Minor, p.picks != nil)}
	at := spotsOf(g.columns)
	if p.Reached && p.Way == nil {
		g.arrows = arrowsOf(ends(at, lastHops(routes)))
	} else {
		g.arrows = arrowsOf(withoutDetours(ends(at, hops)))
	}
	g.mark(at, p.Way)
	d := g.draw(func(c column, b box) drawnBox { return v.describe(p, c, b) }, passed)
	p.Drawing = &d
}

// describe returns what a box of a drawing has besides its place and its versions.
func (v *visit) describe(p *channelPage, c column, b box) (d drawnBox) {
	version, several := b.versions[0], len(b.versions) > 1
	switch {
	case several && (b.held > 0 || p.picks != nil):
		p.Collapsed = true
		d.Subtext = v.some(b)
	case version == p.From:
		d.Subtext = v.c.views.text("updates.box.from")
	case version == p.To:
		d.Subtext = v.c.views.text("updates.box.to")
	case b.held == 0:
		d.Subtext, _ = v.c.views.count("updates.box.absent", len(b.versions))
	}
	switch {
	case p.picks != nil && several:
		d.Press = p.picks("minor", c.minor)
	case p.picks != nil:
		d.Press = p.pick(version)
	case b.held == 0:
	case several:
		d.Link = address(channelPath, p.pairs("minor", c.minor)...)
	default:
		d.Link = p.link(version)
	}
	return d
}

// pick returns the value of the button that is a release: the first one that is chosen is where to begin, as is an
// older one than that, and a newer one is where to end.
func (p *channelPage) pick(version string) string {
	switch {
	case version == p.From, version == p.To:
		return ""
	case p.From == "" || compareVersions(version, p.From) < 0:
		return p.picks("from", version)
	}
	return p.picks("to", version)
}

// some returns what there is of the releases of a box.
func (v *visit) some(b box) string {
	switch b.held {
	case 0:
		subtext, _ := v.c.views.count("updates.box.absent", len(b.versions))
		return subtext
	case len(b.versions):
		return v.c.views.text("updates.box.all", b.held)
	}
	return v.c.views.text("updates.box.some", b.held, len(b.versions)-b.held)
}

// table returns what is drawn, the newest first.
func (p *channelPage) table(all []released, hops []hop, routes map[string][]graphdata.Hop) (table []graphRow) {
	next, risky := map[string][]string{}, map[string][]string{}
	for _, h := range hops {
		if h.risky {
			risky[h.from] = append(risky[h.from], h.to)
		} else {
			next[h.from] = append(next[h.from], h.to)
		}
	}
	newest := func(a, b string) int { return compareVersions(b, a) }
	for _, r := range slices.Backward(all) {
		last := len(table) - 1
		switch {
		case r.held:
			row := graphRow{Version: r.name, Link: p.link(r.name), Next: next[r.name], Risky: risky[r.name], Hops: routes[r.name]}
			slices.SortFunc(row.Next, newest)
			slices.SortFunc(row.Risky, newest)
			risks := map[string]bool{}
			for _, h := range row.Hops {
				for _, risk := range h.Risks {
					risks[risk.Name] = true
				}
			}
			row.Risks = slices.Sorted(maps.Keys(risks))
			table = append(table, row)
		case last >= 0 && table[last].Of > 0:
			table[last].Absent[0] = r.name
			table[last].Of++
		default:
			table = append(table, graphRow{Absent: []string{r.name, r.name}, Of: 1})
		}
	}
	if p.Reached { // its way is no way
		table = slices.DeleteFunc(table, func(r graphRow) bool { return r.Version == p.From })
	}
	return table
}
