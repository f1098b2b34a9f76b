package main_test

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// What clusters are offered is shown, with the routes from a version and their risks; graph data comes
// with a file where no run has brought any.
func TestUpdates(t *testing.T) {
	s := newSite(t)
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	at := []string{"docker://" + s.address, "--dest-creds", "admin:" + faultPassword}
	show := func(args ...string) string {
		return s.works(t, append(append([]string{"updates", "show"}, at...), args...)...)
	}
	s.mirror(t, s.set(t, "set.yaml", "  platform:\n    channels: [{name: candidate-4.18, full: true}]\n"))
	s.stop(t) // without a daemon the store is read at once
	contains(t, s.works(t, "updates", "show", "--quayRoot", s.root), "clusters are offered nothing: there is no graph data here that can be used", "appliance updates load FILE", "4.18.2")
	s.start(t)

	file := filepath.Join(s.dir, "graph-data")
	resp, err := http.Get("http://" + s.source + sample.GraphDataPath)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, os.WriteFile(file, text, 0o600))
	contains(t, s.works(t, append([]string{"updates", "load", file, "--dry-run"}, at...)...), "schema 1.1.0 with 6 channels would be loaded into openshift/graph-data:loaded@sha256:")
	c := s.client("updates", "load", "-", "--dry-run", at[0])
	c.Stdin = bytes.NewReader(text)
	if code, said, _ := outcome(t, c); code != 0 || !strings.Contains(said, "6 channels would be loaded") {
		t.Errorf("standard input: %d, %s", code, said)
	}
	contains(t, s.works(t, append([]string{"updates", "load", file}, at...)...), "6 channels loaded into openshift/graph-data:loaded@sha256:")
	var all api.Updates
	must(t, json.Unmarshal([]byte(show("-o", "json")), &all)) // it counts at once
	if all.GraphData == nil || len(all.Releases) != 4 || all.Releases[1].Version != "4.18.2" || strings.Join(all.Releases[1].Channels, " ") != "candidate-4.18 eus-4.18 fast-4.18 stable-4.18" {
		t.Errorf("it offers %+v", all)
	}
	contains(t, s.works(t, "status", "--quayRoot", s.root), "updates ", "4 releases, graph data since 20")
	contains(t, show(), "graph data: openshift/graph-data:loaded, since ", "4.18.4   amd64  0           candidate-4.18\n")
	contains(t, show("--channel", "candidate-4.18"), "4.18.4   4.18.3           4.18.2\n", "risk SampleRisk: Clusters on bare metal may lose a node while they update. https://example.com/risks/SampleRisk\n")
	got := show("--channel", "candidate-4.18", "--from", "4.18.2")
	contains(t, got, "4.18.3   4.18.3           -\n", "4.18.4   4.18.3 > 4.18.4  -\n")
	if strings.Contains(got, "SampleRisk") {
		t.Errorf("a route without risks has one:\n%s", got)
	}
	for want, args := range map[string][]string{
		"no release for s390x that the registry has is in channel candidate-4.18": {"--channel", "candidate-4.18", "--arch", "s390x"},
		"hint: it has releases for amd64: --arch":                                 {"--channel", "candidate-4.18", "--arch", "x86_64"},
		`--from: "v4.18.1" is not the version of a release`:                       {"--channel", "candidate-4.18", "--from", "v4.18.1"},
		"release 4.18.9 is not in the channel":                                    {"--channel", "candidate-4.18", "--from", "4.18.9"},
		"--from needs the channel of the cluster":                                 {"--from", "4.18.1"},
		`"Stable 4.18" is not a channel`:                                          {"--channel", "Stable 4.18"},
	} {
		code, _, said := s.run(t, append(append([]string{"updates", "show"}, at...), args...)...)
		if code != 1 || !strings.Contains(said, want) {
			t.Errorf("%q: %d, %s", args, code, said)
		}
	}
	if got := show("--arch", "s390x"); strings.Contains(got, "amd64") {
		t.Errorf("releases of another architecture than s390x:\n%s", got)
	}
	if code, _, said := s.run(t, append([]string{"updates", "cluster-config", "--ca", file}, at...)...); code != 1 || !strings.Contains(said, "the CA of "+s.address+": no certificate") {
		t.Errorf("a CA that is none: %d, %s", code, said)
	}
	contains(t, s.works(t, "updates", "cluster-config", "--quayRoot", s.root), "kind: ClusterVersion\nmetadata:\n  name: version\nspec:\n  upstream: https://"+s.address+"/api/upgrades_info/v1/graph\n",
		"kind: Proxy", "name: user-ca-bundle", "BEGIN CERTIFICATE")
	if code, _, said := s.run(t, append([]string{"updates", "cluster-config", "--operator"}, at...)...); code != 1 || !strings.Contains(said, "no run has mirrored the graph image") {
		t.Errorf("without a graph image: %d, %s", code, said)
	}
	conf := s.file(t, "registries.conf", "[[registry]]\nprefix = \"registry.access.redhat.com\"\nlocation = \""+s.source+"\"\ninsecure = true\n")
	c = s.client("mirror", "-c", s.set(t, "graph.yaml", "  platform:\n    graph: true\n    release: HOST/openshift-release-dev/ocp-release:4.18.2-x86_64\n"),
		"docker://"+s.address, "--workspace", "file://"+s.dir+"/ws", "--src-tls-verify=false", "--dest-creds", "admin:"+faultPassword)
	c.Env = append(c.Env, "CONTAINERS_REGISTRIES_CONF="+conf)
	if code, _, said := outcome(t, c); code != 0 {
		t.Fatalf("the graph image is not mirrored: %s", said)
	}
	contains(t, s.works(t, append([]string{"updates", "cluster-config", "--operator"}, at...)...), "kind: UpdateService", "name: cincinnati-operator", "updateservice-registry: |", "graphDataImage: "+s.address)
	must(t, os.WriteFile(file, []byte("not an archive"), 0o600))
	if code, _, said := s.run(t, append([]string{"updates", "load", file}, at...)...); code != 1 || !strings.Contains(said, "graph data: ") || !strings.Contains(said, "api.openshift.com/api/upgrades_info/graph-data") {
		t.Errorf("a file that is none: %d, %s", code, said)
	}
}
