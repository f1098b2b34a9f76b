package graphdata_test

import (
	"testing"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// FuzzRead puts a text in the place of each file of graph data: whatever it is, the answers keep
// their promises to clusters.
func FuzzRead(f *testing.F) {
	for _, text := range []string{"1.1.0", `{"4.1.2":{"` + p + `previous.add":"4.1.0"}}`, block("4.1.2", ".*"), risk("4.1.2+amd64", "4.1", "A"),
		"name: s\nversions: [4.1.0, 4.1.1+amd64]\n", "to: &a 4.1.2\nfrom: *a\n", "a: &a [*a]"} {
		f.Add(text)
	}
	all := releases("4.1.0+amd64", "4.1.1+amd64 <4.1.0", "4.1.2+amd64 <4.1.0 <4.1.1", "4.1.1+arm64 >4.1.2", "4.1.2+arm64")
	f.Fuzz(func(t *testing.T, text string) {
		for _, name := range []string{"version", "raw/metadata.json", "channels/t.yaml", "blocked-edges/t.yaml"} {
			d, err := graphdata.Read(files(name, text))
			if err != nil {
				continue
			}
			a := graphdata.Build(all, d).Answer("s", "amd64")
			if len(a.Nodes) != 3 {
				t.Errorf("%s: %s", name, short(a))
			}
			pairs := map[[2]string]bool{}
			add := func(from, to string) {
				if pairs[[2]string{from, to}] {
					t.Errorf("%s: the update from %s to %s is there twice", name, from, to)
				}
				pairs[[2]string{from, to}] = true
			}
			for _, e := range a.Edges {
				add(a.Nodes[e[0]].Version, a.Nodes[e[1]].Version)
			}
			for _, c := range a.Conditional {
				for _, e := range c.Edges {
					add(e.From, e.To)
				}
			}
		}
	})
}

// FuzzParseMetadata reads any text as the file of a release image.
func FuzzParseMetadata(f *testing.F) {
	f.Add([]byte(`{"kind":"cincinnati-metadata-v0","version":"4.1.1","previous":["4.1.0"],"metadata":{"url":"u"}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		if m, err := graphdata.ParseMetadata(text); err == nil {
			if m.Metadata == nil || m.Version.Validate() != nil {
				t.Errorf("%+v", m)
			}
		}
	})
}
