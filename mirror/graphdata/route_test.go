package graphdata_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

func TestAnswer_Routes(t *testing.T) {
	g := graphdata.Build(releases("4.1.0+amd64", "4.1.1+amd64 <4.1.0", "4.1.2+amd64 <4.1.0", "4.1.3+amd64 <4.1.1 <4.1.2", "4.1.4+amd64 <4.1.3",
		"4.1.5+amd64 <4.1.0 <4.1.4", "4.1.6+amd64 <4.1.0", "4.1.7+amd64"),
		read(t, files("blocked-edges/a.yaml", risk("4.1.5", "4[.]1[.]0[+]", "A"), "blocked-edges/b.yaml", risk("4.1.6", ".*", "B"))))
	a := g.Answer("s", "amd64")
	for from, want := range map[string][]string{
		"4.1.0": {"4.1.0:", "4.1.1: 4.1.1", "4.1.2: 4.1.2", "4.1.3: 4.1.2 4.1.3", "4.1.4: 4.1.2 4.1.3 4.1.4", "4.1.5: 4.1.2 4.1.3 4.1.4 4.1.5", "4.1.6: 4.1.6!B"},
		"4.1.4": {"4.1.4:", "4.1.5: 4.1.5"},
		"4.1.7": {"4.1.7:"},
		"4.1.9": nil,
	} {
		var got []string
		routes := a.Routes(from)
		for _, to := range slices.Sorted(maps.Keys(routes)) {
			text := to + ":"
			for _, h := range routes[to] {
				text += " " + h.To
				for _, r := range h.Risks {
					text += "!" + r.Name
				}
			}
			got = append(got, text)
		}
		if !slices.Equal(got, want) {
			t.Errorf("from %s:\n%s\nwant\n%s", from, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
}

// TestAnswer_Routes_many has every release updated to from all before it.
func TestAnswer_Routes_many(t *testing.T) {
	var texts []string
	before, channel := "", "name: s\nversions:\n"
	for i := range 300 {
		v := fmt.Sprintf("4.1.%d", i)
		texts = append(texts, v+"+amd64"+before)
		before += " <" + v
		channel += "- " + v + "\n"
	}
	routes := graphdata.Build(releases(texts...), read(t, files("channels/s.yaml", channel))).Answer("s", "amd64").Routes("4.1.0")
	if len(routes) != 300 || len(routes["4.1.299"]) != 1 {
		t.Errorf("%d routes, one of %d hops", len(routes), len(routes["4.1.299"]))
	}
}
