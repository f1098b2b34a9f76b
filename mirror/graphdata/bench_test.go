package graphdata_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// BenchmarkBuild has 200 releases for four architectures, each updated to from all before it, and a
// risk for each.
func BenchmarkBuild(b *testing.B) {
	var texts, more []string
	var channel, before strings.Builder
	channel.WriteString("name: s\nversions:\n")
	for i := range 200 {
		v := fmt.Sprintf("4.%d.%d", 12+i/25, i%25)
		for _, arch := range []string{"amd64", "arm64", "ppc64le", "s390x"} {
			texts = append(texts, v+"+"+arch+before.String())
		}
		fmt.Fprintf(&before, " <%s", v)
		fmt.Fprintf(&channel, "- %s\n", v)
		more = append(more, "blocked-edges/"+v+".yaml", risk(v, `^4[.]1[0-9][.](1.)?[0-5][+].*$`, fmt.Sprintf("R%d", i%20)))
	}
	all, data := releases(texts...), files(append(more, "channels/s.yaml", channel.String())...)
	b.Run("read", func(b *testing.B) {
		for b.Loop() {
			if _, err := graphdata.Read(data); err != nil {
				b.Fatal(err)
			}
		}
	})
	d, err := graphdata.Read(data)
	if err != nil {
		b.Fatal(err)
	}
	var g *graphdata.Graph
	b.Run("build", func(b *testing.B) {
		for b.Loop() {
			g = graphdata.Build(all, d)
		}
	})
	b.Run("answer", func(b *testing.B) {
		for b.Loop() {
			g.Answer("s", "amd64")
		}
	})
}
