package console

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// graphOf makes an answer of versions, and of updates such as 4.18.1>4.18.2 or, with risks, 4.18.1?4.18.2.
func graphOf(versions, updates string) graphdata.Answer {
	var a graphdata.Answer
	for v := range strings.FieldsSeq(versions) {
		a.Nodes = append(a.Nodes, graphdata.Node{Version: v})
	}
	at := func(v string) int {
		return slices.IndexFunc(a.Nodes, func(n graphdata.Node) bool { return n.Version == v })
	}
	for u := range strings.FieldsSeq(updates) {
		if from, to, ok := strings.Cut(u, ">"); ok {
			a.Edges = append(a.Edges, [2]int{at(from), at(to)})
		} else {
			from, to, _ := strings.Cut(u, "?")
			a.Conditional = append(a.Conditional, graphdata.Conditional{Edges: []graphdata.Update{{From: from, To: to}}, Risks: []graphdata.Risk{{Name: "Slow"}}})
		}
	}
	return a
}

// drawn returns the boxes of a graph by column, and its arrows.
func (g graph) drawn() (text string) {
	for _, c := range g.columns {
		text += c.minor + ":"
		for _, b := range c.boxes {
			text += fmt.Sprintf(" %s(%d/%d)", b.text(), b.held, len(b.versions))
		}
		text += "\n"
	}
	name := func(s spot) string { return g.columns[s.column].boxes[s.box].versions[0] }
	for _, a := range g.arrows {
		text += name(a.from) + map[bool]string{true: "?", false: ">"}[a.risky] + name(a.to) + map[bool]string{true: "!"}[a.way] + " "
	}
	return strings.TrimSpace(text)
}

func TestGraph(t *testing.T) {
	for name, test := range map[string]struct{ versions, updates, listed, opened, want string }{
		"updates that others lead around are left out": {"4.17.2 4.18.1 4.18.2 4.18.10", "4.17.2>4.18.1 4.17.2>4.18.2 4.18.1>4.18.2 4.18.1>4.18.10 4.18.2>4.18.10", "", "",
			"4.17: 4.17.2(1/1)\n4.18: 4.18.1(1/1) 4.18.2(1/1) 4.18.10(1/1)\n4.17.2>4.18.1 4.18.1>4.18.2 4.18.2>4.18.10"},
		"updates with risks stay, from the last release that has them": {"4.17.1 4.17.2 4.18.1 4.18.2", "4.17.1>4.17.2 4.17.1?4.18.2 4.17.2?4.18.2 4.17.2>4.18.1 4.18.1>4.18.2", "", "",
			"4.17: 4.17.1(1/1) 4.17.2(1/1)\n4.18: 4.18.1(1/1) 4.18.2(1/1)\n4.17.1>4.17.2 4.17.2>4.18.1 4.17.2?4.18.2 4.18.1>4.18.2"},
		"what is not here is between what is": {"4.18.1 4.18.4", "4.18.1>4.18.4", "4.18.1 4.18.2 4.18.3 4.18.4 4.19.0-rc.1 x", "",
			"4.18: 4.18.1(1/1) 4.18.2 – 4.18.3(0/2) 4.18.4(1/1)\n4.19: 4.19.0-rc.1(0/1)\n4.18.1>4.18.4"},
		"a circle, and updates to older releases": {"4.18.1 4.18.2 4.18.3", "4.18.1>4.18.2 4.18.2>4.18.3 4.18.3>4.18.1 4.18.1>4.18.3", "", "",
			"4.18: 4.18.1(1/1) 4.18.2(1/1) 4.18.3(1/1)\n4.18.1>4.18.2 4.18.2>4.18.3 4.18.3>4.18.1"},
		"nothing": {},
	} {
		t.Run(name, func(t *testing.T) {
			a := graphOf(test.versions, test.updates)
			g := graph{columns: layOut(releasedIn(a, strings.Fields(test.listed)), nil, test.opened, false)}
			g.arrows = arrowsOf(withoutDetours(ends(spotsOf(g.columns), hopsOf(a))))
			if got := g.drawn(); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

func TestEnds_risk(t *testing.T) {
	at := map[string]spot{"a": {0, 0}, "b": {0, 0}, "c": {0, 1}, "d": {0, 2}}
	got := ends(at, []hop{{"a", "c", true}, {"b", "c", false}, {"a", "c", true}, {"b", "d", true}, {"a", "b", false}, {"a", "none", false}})
	if len(got) != 2 || got[[2]spot{{0, 0}, {0, 1}}] || !got[[2]spot{{0, 0}, {0, 2}}] {
		t.Errorf("an arrow has risks if each update that it stands for has: %v", got)
	}
}

// fleet is a channel with 200 releases of five minor versions, each of which updates to each newer one.
func fleet() graphdata.Answer {
	var versions, updates []string
	for minor := 26; minor <= 30; minor++ {
		for z := range 40 {
			v := fmt.Sprintf("4.%d.%d", minor, z)
			for _, older := range versions[max(0, len(versions)-80):] {
				updates = append(updates, older+">"+v)
			}
			versions = append(versions, v)
		}
	}
	return graphOf(strings.Join(versions, " "), strings.Join(updates, " "))
}

func TestGraph_ofManyReleases(t *testing.T) {
	a := fleet()
	way := a.Routes("4.26.3")["4.30.39"]
	stay := map[string]bool{"4.26.3": true, "4.30.39": true}
	for _, h := range way {
		stay[h.To] = true
	}
	for opened, most := range map[string]int{"": 5 * (shownBoxes + 4), "4.28": 4*(shownBoxes+4) + 40} {
		g := graph{columns: layOut(releasedIn(a, nil), stay, opened, false)}
		at := spotsOf(g.columns)
		g.arrows = arrowsOf(withoutDetours(ends(at, hopsOf(a))))
		g.mark(at, way)
		boxes := 0
		for _, c := range g.columns {
			boxes += len(c.boxes)
		}
		if boxes > most || len(g.arrows) > boxes+len(way) || len(at) != 200 {
			t.Errorf("with %q opened: %d boxes with %d arrows for %d releases", opened, boxes, len(g.arrows), len(at))
		}
		for v := range stay {
			if s := at[v]; len(g.columns[s.column].boxes[s.box].versions) != 1 {
				t.Errorf("%s of the way has no box of its own", v)
			}
		}
	}
}

// What outsiders can name is text in a drawing, and all that a page can have is rendered.
func TestChannel_parts(t *testing.T) {
	c, err := New(Options{API: http.NotFoundHandler()})
	if err != nil {
		t.Fatal(err)
	}
	risk := graphdata.Risk{Name: "<b>", Message: `"><script>`, URL: "javascript:alert(1)", Rules: []graphdata.Rule{{Type: "PromQL"}}}
	p := channelPage{Channel: "stable-4.18", From: "4.18.1", To: "4.18.2", Reached: true, Way: []graphdata.Hop{{From: "4.18.1", To: "4.18.2", Risks: []graphdata.Risk{risk, {Name: "All"}}}},
		Rows:    []graphRow{{Version: "4.18.2", Risks: []string{"<b>"}}, {Absent: []string{"<i>", "</svg>"}, Of: 2}},
		Drawing: &drawing{Heads: []drawnText{{1, 2, "</svg><script>"}}, Boxes: []drawnBox{{Text: "<script>", Link: "javascript:alert(1)", Class: "held"}}}}
	var out strings.Builder
	if err := c.views.render(&out, "updates-channel", "content", shell{Data: p}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"&lt;b&gt;", "&lt;script&gt;", "Clusters for which a query is true", "It applies to every cluster", "More at javascript:alert(1)"} {
		if !strings.Contains(strings.ReplaceAll(out.String(), "It applies to clusters for", "Clusters for"), want) {
			t.Errorf("%q is not in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), "<script>") || strings.Contains(out.String(), `href="javascript`) {
		t.Errorf("a name is markup or a link in\n%s", out.String())
	}
}
