package mirror_test

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

const withGraph = "  platform:\n    graph: true\n    channels: [{name: stable-4.18}]\n"

// noGraphData makes the upstream an update service that has none, as an enclave's.
func noGraphData(w http.ResponseWriter, r *http.Request) bool {
	none := r.URL.Path == sample.GraphDataPath
	if none {
		w.WriteHeader(http.StatusNotFound)
	}
	return none
}

// graphDigest returns the graph image of a report.
func graphDigest(r *mirror.Report) digest.Digest {
	for _, i := range r.Mirrored {
		if i.Type == plan.Graph {
			return i.Digest
		}
	}
	return ""
}

// Spec: oc-mirror 4.9, 4.10.
func TestRun_graphImage(t *testing.T) {
	s := newSetup(t, withGraph, func(o *mirror.Options) { o.Prefix, o.MaxNestedPaths = "ns/deep", 3 })
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	first := graphDigest(report)
	s.holds(t, "ns/deep/openshift-graph-image", "latest", first)
	m, err := s.store.Manifests.ByTag(t.Context(), "ns/deep/openshift-graph-image", "latest")
	if err != nil || strings.Count(string(m.Body), `"platform"`) != 3 {
		t.Errorf("the list is %s, %v", m.Body, err)
	}
	if got := s.read(t, "cluster-resources", "updateService.yaml"); !strings.Contains(got, "graphDataImage: mirror.example.com:8443/ns/deep/openshift-graph-image:latest\n") ||
		!strings.Contains(got, "releases: mirror.example.com:8443/ns/deep/openshift-release-images\n") {
		t.Errorf("the update service: %s", got)
	}
	for _, name := range []string{"idms-oc-mirror.yaml", "itms-oc-mirror.yaml"} {
		if strings.Contains(s.read(t, "cluster-resources", name), "graph-image") {
			t.Errorf("%s names the graph image", name)
		}
	}
	s.asked("")
	again, err := s.mirror(t)
	if err != nil || graphDigest(again) != first {
		t.Errorf("the same data gives %s and then %s, %v", first, graphDigest(again), err)
	}
}

// Spec: oc-mirror 4.9.
func TestRun_graphImageOfTheWorkspace(t *testing.T) {
	s := newSetup(t, withGraph)
	report, err := s.mirror(t)
	if err != nil {
		t.Fatal(err)
	}
	s.fails(noGraphData)
	again, err := s.mirror(t)
	if err != nil || graphDigest(again) != graphDigest(report) {
		t.Errorf("%s and then %s, %v", graphDigest(report), graphDigest(again), err)
	}
}

func TestRun_graphImageBesideTheReleases(t *testing.T) {
	s := newSetup(t, "  platform:\n    graph: true\n    release: HOST/ns/openshift/release-images:4.18.2-x86_64\n")
	s.fails(func(w http.ResponseWriter, r *http.Request) bool {
		other := strings.NewReplacer("/ns/openshift/release-images/", "/"+sample.ReleaseRepository+"/", "/ns/openshift/graph-image/", "/samples/docker-multi/",
			"/latest", "/v1").Replace(r.URL.Path)
		if noGraphData(w, r) || other == r.URL.Path {
			return r.URL.Path == sample.GraphDataPath
		}
		r.URL.Path = other
		s.Handler().ServeHTTP(w, r)
		return true
	})
	report, err := s.mirror(t)
	if err != nil || graphDigest(report) != s.digest(t, "samples/docker-multi", "v1") {
		t.Errorf("%s, %v", graphDigest(report), err)
	}
	s.holds(t, "openshift/graph-image", "latest", s.digest(t, "samples/docker-multi", "v1"))
}

func TestRun_graphImageThatCannotBeMade(t *testing.T) {
	s := newSetup(t, withGraph)
	for name, fault := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"no openshift/graph-image is beside the releases": noGraphData,
		"503 Service Unavailable": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == sample.GraphDataPath {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
			return r.URL.Path == sample.GraphDataPath
		},
		"graph data: gzip: invalid header": func(w http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path == sample.GraphDataPath {
				_, _ = w.Write([]byte("<html>this is a proxy</html>"))
			}
			return r.URL.Path == sample.GraphDataPath
		},
		"the graph image is made of registry.access.redhat.com/ubi9/ubi:latest: ": func(w http.ResponseWriter, r *http.Request) bool {
			gone := strings.HasPrefix(r.URL.Path, "/v2/"+sample.BaseRepository+"/")
			if gone {
				w.WriteHeader(http.StatusNotFound)
			}
			return gone
		},
	} {
		s := newSetupFrom(t, s.source, withGraph)
		s.fails(fault)
		report, err := s.mirror(t)
		if exitCode(err) != 2 || len(report.Failures) != 1 || !strings.Contains(report.Failures[0].Error, name) {
			t.Errorf("%s: %v, failures %+v", name, err, report.Failures)
		}
		if strings.Contains(name, "beside") && hint.Of(report.Failures[0].Cause) == "" {
			t.Error("it does not say what to do")
		}
		s.holds(t, "openshift/release-images", "4.18.3-x86_64", s.release(t, "4.18.3").Digest)
		for _, f := range s.files(t) {
			if filepath.Base(f) == "updateService.yaml" {
				t.Errorf("%s: there is an update service without its image", name)
			}
		}
	}
}
