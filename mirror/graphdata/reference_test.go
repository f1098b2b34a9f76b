//go:build cincinnati

package graphdata_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/blang/semver/v4"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
)

// whole is a graph of the reference with all channels and architectures.
type whole struct {
	Nodes []struct {
		Version, Payload string
		Metadata         map[string]string
	}
	Edges [][2]int
}

func readWhole(t *testing.T, file string) (all []graphdata.Release, channels map[string]bool) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var g whole
	if err := json.Unmarshal(text, &g); err != nil {
		t.Fatal(err)
	}
	channels = map[string]bool{}
	for _, n := range g.Nodes {
		r := graphdata.Release{Arch: n.Metadata[p+"release.arch"], Payload: n.Payload, Digest: digest.Digest(n.Metadata[p+"release.manifestref"])}
		r.Version = semver.MustParse(n.Version)
		r.Metadata.Metadata = n.Metadata
		for name := range strings.SplitSeq(n.Metadata[p+"release.channels"], ",") {
			channels[name] = true
		}
		all = append(all, r)
	}
	for _, e := range g.Edges {
		all[e[1]].Previous = append(all[e[1]].Previous, all[e[0]].Version)
	}
	return all, channels
}

func load(t *testing.T, dir string) graphdata.Files {
	t.Helper()
	all := graphdata.Files{}
	err := fs.WalkDir(os.DirFS(dir), ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		all[name], err = os.ReadFile(filepath.Join(dir, name))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReference compares with the fixtures of openshift/cincinnati, a checkout of which is at
// $CINCINNATI: graphs with the metadata that graph data of the same day was made from.
func TestReference(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(os.Getenv("CINCINNATI"), "cincinnati/src/plugins/internal/graph_builder/openshift_secondary_metadata_parser/test_fixtures/20*"))
	if err != nil || len(dirs) == 0 {
		t.Fatalf("CINCINNATI is no checkout of openshift/cincinnati: %v", err)
	}
	for _, dir := range dirs {
		t.Run(filepath.Base(dir), func(t *testing.T) {
			raw, _ := readWhole(t, filepath.Join(dir, "graph-gb-raw.json"))
			labelled, channels := readWhole(t, filepath.Join(dir, "graph-gb-with-quay-metadata.json"))
			data := read(t, load(t, filepath.Join(dir, "cincinnati-graph-data")))
			got := graphdata.Build(raw, data)
			want := graphdata.Build(labelled, read(t, files("channels/s.yaml", "")))
			nodes, edges := 0, 0
			for channel := range channels {
				for _, arch := range []string{"amd64", "s390x", "ppc64le", "arm64"} {
					a, b := got.Answer(channel, arch), want.Answer(channel, arch)
					for _, n := range append(a.Nodes, b.Nodes...) {
						delete(n.Metadata, p+"previous.remove_regex")
						delete(n.Metadata, p+"previous.remove")
					}
					a.Conditional, b.Conditional = nil, nil // labels have no risks
					if encode(t, a) != encode(t, b) {
						t.Errorf("%s, %s:\ngot  %s\nwant %s", channel, arch, short(a), short(b))
					}
					nodes += len(a.Nodes)
					edges += len(a.Edges)
				}
			}
			t.Logf("%d channels, %d nodes, %d edges; %d problems", len(channels), nodes, edges, len(got.Problems()))
		})
	}
}
