package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// newReachStore is an appliance with the releases 4.18.1 to 4.18.4, graph data, and an operator catalog.
func newReachStore(t *testing.T) *site {
	t.Helper()
	return newSiteWithGraph(t, `  platform:
    channels: [{name: candidate-4.18, full: true}]
  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database}]}]
  additionalImages: [{name: 'HOST/samples/oci:v1'}]
`)
}

// newSiteWithGraph is an appliance with graph data and what is mirrored into it.
func newSiteWithGraph(t *testing.T, mirrored string) *site {
	t.Helper()
	s := newSite(t)
	s.env = []string{"UPDATE_URL_OVERRIDE=http://" + s.source + sample.GraphPath, "OCP_SIGNATURE_URL=http://" + s.source + "/nowhere/"}
	s.mirror(t, s.set(t, "set.yaml", mirrored))
	s.works(t, slices.Concat([]string{"updates", "load", s.file(t, "graph-data", string(s.fetch(t, sample.GraphDataPath)))}, s.at())...)
	return s
}

func (s *site) at() []string {
	return []string{"docker://" + s.address, "--dest-creds", "admin:" + faultPassword}
}

// pins attaches a cluster in a channel, see export.
func (s *site) pins(t *testing.T, channel string, versions ...string) {
	t.Helper()
	text, err := os.ReadFile(s.export(t, versions...))
	must(t, err)
	file := s.file(t, "cluster.json", strings.Replace(string(text), `"stable-4.18"`, `"`+channel+`"`, 1))
	s.works(t, slices.Concat([]string{"pin", "cluster", file, "--name", "prod"}, s.at())...)
}

// prunes runs prune --keep-reachable.
func (s *site) prunes(t *testing.T, args ...string) (r api.PruneResult) {
	t.Helper()
	must(t, json.Unmarshal([]byte(s.works(t, slices.Concat([]string{"prune", "--keep-reachable", "-o", "json"}, args, s.at())...)), &r))
	return r
}

// plan returns what a prune would delete, in short.
func (s *site) plan(t *testing.T) (goes string, r api.PruneResult) {
	t.Helper()
	r = s.prunes(t)
	var all []string
	for _, d := range r.Delete {
		name := strings.TrimSuffix(strings.TrimPrefix(d.Name, "release "), " (amd64)")
		all = append(all, strings.TrimPrefix(name, "catalog "+s.source+"/redhat/redhat-operator-"))
	}
	slices.Sort(all)
	return strings.Join(all, " "), r
}

// pushUnreadable pushes an image with a layer that is no archive.
func (s *site) pushUnreadable(t *testing.T, repository, tag string) {
	t.Helper()
	blob := func(mediaType, content string) string {
		must(t, s.pushBlob(t.Context(), repository, []byte(content)))
		return fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":%d}`, mediaType, digest.FromString(content), len(content))
	}
	body := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":%s,"layers":[%s]}`, imageType,
		blob("application/vnd.oci.image.config.v1+json", `{"architecture":"amd64"}`), blob("application/vnd.oci.image.layer.v1.tar+gzip", "no archive"))
	_, err := s.demand(t.Context(), http.StatusCreated, http.MethodPut, "/v2/"+repository+"/manifests/"+tag, strings.NewReader(body), "Content-Type", imageType)
	must(t, err)
}

// reasonOf returns the reason that a release or catalog stays.
func reasonOf(r api.PruneResult, name string) string {
	for _, k := range r.Kept {
		if strings.Contains(k.Image, name) {
			return k.Reason
		}
	}
	return ""
}

func TestPruneReachable_plan(t *testing.T) {
	s := newReachStore(t)
	if code, _, said := s.run(t, slices.Concat([]string{"prune", "--keep-reachable"}, s.at())...); code != 1 || !strings.Contains(said, "appliance pin cluster FILE") {
		t.Errorf("without a cluster: %d, %s", code, said)
	}
	for _, tc := range []struct {
		name, channel string
		versions      []string
		goes          string
		about, reason string // of what stays
	}{
		{"what it can reach", "stable-4.18", []string{"4.18.2"}, "4.18.1 4.18.4", "4.18.3", "cluster prod (" + clusterID + ") can reach it in channel stable-4.18"},
		{"what it may roll back to", "stable-4.18", []string{"4.18.2", "4.18.1"}, "4.18.4", "4.18.1", "cluster prod (" + clusterID + ") needs it"},
		{"another channel", "candidate-4.18", []string{"4.18.2"}, "4.18.1", "4.18.4", "can reach it in channel candidate-4.18"},
		{"no channel", "", []string{"4.18.2"}, "", "4.18.1", "it is not known what cluster prod (" + clusterID + ") can reach: it has no channel"},
		{"an unknown channel", "stable-4.99", []string{"4.18.2"}, "", "4.18.1", "the graph data has no channel stable-4.99 with a release for amd64"},
		{"a version that the channel lacks", "stable-4.18", []string{"4.18.4"}, "", "4.18.1", "4.18.4 is not in channel stable-4.18"},
	} {
		s.pins(t, tc.channel, tc.versions...)
		goes, r := s.plan(t)
		if goes != tc.goes || !strings.Contains(reasonOf(r, tc.about), tc.reason) {
			t.Errorf("%s: %q would go, and %s stays: %q", tc.name, goes, tc.about, reasonOf(r, tc.about))
		}
	}

	s.pins(t, "stable-4.18", "4.18.2")
	out := s.works(t, slices.Concat([]string{"prune", "--keep-reachable"}, s.at())...)
	contains(t, out, "cluster prod, 4.18.2 (amd64) in channel stable-4.18, can come to: 4.18.2 4.18.3", "to delete: release 4.18.1 (amd64) at openshift/release-images:4.18.1-x86_64, ",
		"release 4.18.1 (amd64) is asked for by image set set.yaml", "nothing was deleted")

	t.Run("an update with risks leads there", func(t *testing.T) {
		s.pins(t, "candidate-4.18", "4.18.2")
		s.deletes(t, "openshift/release-images/manifests/4.18.3-x86_64")
		if goes, r := s.plan(t); goes != "4.18.1" || !slices.Equal(r.Clusters[0].Reaches, []string{"4.18.2", "4.18.4"}) {
			t.Errorf("%q would go, and it reaches %v", goes, r.Clusters[0].Reaches)
		}
	})
	t.Run("a client has tagged a release", func(t *testing.T) {
		s.tag(t, "openshift/release-images:4.18.1-x86_64", "openshift/release-images:mine")
		if goes, r := s.plan(t); goes != "" || reasonOf(r, "4.18.1") != "tag openshift/release-images:mine needs it" {
			t.Errorf("%q would go, and it stays: %q", goes, reasonOf(r, "4.18.1"))
		}
		s.deletes(t, "openshift/release-images/manifests/4.18.1-x86_64") // with its tags
	})
	t.Run("a release that cannot be read", func(t *testing.T) {
		s.pins(t, "stable-4.18", "4.18.2")
		if goes, _ := s.plan(t); goes != "4.18.4" {
			t.Fatalf("%q would go", goes)
		}
		s.pushUnreadable(t, "openshift/release-images", "4.18.7-x86_64")
		if goes, r := s.plan(t); goes != "" || !strings.Contains(reasonOf(r, "4.18.4"), "openshift/release-images:4.18.7-x86_64 may be a release") {
			t.Errorf("%q would go: %s", goes, reasonOf(r, "4.18.4"))
		}
		s.deletes(t, "openshift/release-images/manifests/4.18.7-x86_64")
	})
	t.Run("no graph data", func(t *testing.T) {
		s.deletes(t, "openshift/graph-data/manifests/loaded")
		if goes, r := s.plan(t); goes != "" || !strings.Contains(reasonOf(r, "4.18.4"), "there is no graph data here") {
			t.Errorf("%q would go: %s", goes, reasonOf(r, "4.18.4"))
		}
	})
}

// whole fails unless releases lack nothing but their signatures, which no mirror of the test brings.
func (s *site) whole(t *testing.T, releases ...string) {
	t.Helper()
	for _, v := range releases {
		code, out, said := s.run(t, slices.Concat([]string{"ready", "--to", v}, s.at())...)
		if code != 4 || !strings.Contains(out, "release-unsigned") || !strings.Contains(said, "not ready: 1 reason") {
			t.Errorf("%s: %d, %s%s", v, code, out, said)
		}
	}
}

// freed is what gc says that it has freed.
var freed = regexp.MustCompile(`freed .* \((\d+) bytes\)`)

func TestPruneReachable_delete(t *testing.T) {
	s := newReachStore(t)
	s.pins(t, "stable-4.18", "4.18.2")
	s.tag(t, "openshift/release:4.18.4-x86_64-cluster-version-operator", "openshift/release:mine")
	goes, r := s.plan(t)
	if goes != "4.18.1 4.18.4" || r.Bytes == 0 {
		t.Fatalf("%q would go", goes)
	}
	for n, i := range r.Images { // releases last: what is of them is known from them
		if (i.Repository == "openshift/release-images") != (n >= len(r.Images)-2) {
			t.Errorf("image %d of %d is in %s", n, len(r.Images), i.Repository)
		}
	}
	text, err := json.Marshal(r)
	must(t, err)
	list := s.file(t, "plan.json", string(text))

	if dry := s.prunes(t, "--delete-yaml-file", list, "--dry-run"); dry.Deleted != 0 || len(dry.Images) != len(r.Images) {
		t.Errorf("a dry run: %+v", dry)
	}
	// as a prune that was killed leaves it
	first := r.Images[0]
	if status, said := s.deletes(t, first.Repository+"/manifests/"+first.Digest.String()); status != http.StatusAccepted {
		t.Fatal(status, said)
	}
	s.works(t, "gc", "--grace-period", "0s", "--quayRoot", s.root)
	_, rest := s.plan(t)
	before := strings.Fields(s.tags(t))
	if len(rest.Images) != len(r.Images)-1 {
		t.Errorf("%d images are left of %d", len(rest.Images), len(r.Images))
	}
	code, out, said := s.run(t, slices.Concat([]string{"prune", "--keep-reachable", "--delete-yaml-file", list}, s.at())...)
	if code != 0 {
		t.Fatal(code, said)
	}
	contains(t, out, "deleted: release 4.18.1 (amd64)", "deleted: release 4.18.4 (amd64)", "deleted "+strconv.Itoa(len(r.Images)-1)+" images")
	if m := freed.FindStringSubmatch(out); m == nil || m[1] != strconv.FormatInt(rest.Bytes, 10) {
		t.Errorf("the plan frees %d bytes, and gc says\n%s", rest.Bytes, out)
	}

	planned := map[string]bool{}
	for _, i := range rest.Images {
		for _, tag := range append(i.Tags, strings.Replace(i.Digest.String(), ":", "-", 1)+".sig") {
			planned[i.Repository+":"+tag] = true
		}
	}
	after := s.tags(t)
	for _, tag := range before {
		if is := strings.Contains(after, tag+"\n"); is == planned[tag] {
			t.Errorf("%s: it is there: %v", tag, is)
		}
	}
	contains(t, after, "openshift/release:mine", "openshift/release:4.18.4-x86_64-cluster-version-operator", "openshift/release-images:4.18.3-x86_64", "openshift/graph-data:loaded", "samples/oci:v1")
	if strings.Contains(after, "release-images:4.18.1-x86_64") || strings.Contains(after, "openshift/release:4.18.1-x86_64-cluster-version-operator") {
		t.Error("release 4.18.1 is still there")
	}
	s.whole(t, "4.18.2", "4.18.3")
	if goes, _ := s.plan(t); goes != "" {
		t.Errorf("%q would go then", goes)
	}
	contains(t, s.works(t, slices.Concat([]string{"prune", "--keep-reachable", "--delete-yaml-file", list}, s.at())...), "deleted 0 images")
}

// A catalog for a minor version that no cluster comes to goes, with the images that no other catalog needs.
func TestPruneReachable_catalogs(t *testing.T) {
	s := newSiteWithGraph(t, `  platform:
    channels: [{name: eus-4.18, full: true}]
  operators:
  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', full: true}
  - {catalog: 'HOST/redhat/redhat-operator-index:v4.18', targetCatalog: other/index, targetTag: own, packages: [{name: sample-logging}]}
  additionalImages: [{name: 'HOST/operators/sample-database-bundle:v1.1.0'}]
`)
	const of = "redhat/redhat-operator-index:v4.18"
	s.pins(t, "eus-4.18", "4.16.2")
	if goes, r := s.plan(t); goes != "" || reasonOf(r, of) != "a cluster has OpenShift 4.18, or can come to it" {
		t.Errorf("%q would go, the catalog stays: %q", goes, reasonOf(r, of))
	}
	s.pins(t, "", "4.17.2")
	if goes, r := s.plan(t); goes != "" || reasonOf(r, of) != "it is not known of each cluster what it can reach" {
		t.Errorf("%q would go, the catalog stays: %q", goes, reasonOf(r, of))
	}
	text, err := os.ReadFile(s.export(t, "4.17.2", "4.16.2"))
	must(t, err)
	s.tag(t, "operators/sample-database-bundle:v1.1.0", "mine/index:v1") // whatever it is
	for used, reason := range map[string]string{of: "cluster prod (" + clusterID + ") needs it", "mine/index:v1": "a cluster uses the catalog " + s.address + "/mine/index:v1, which no run has mirrored"} {
		uses := strings.Replace(strings.Replace(string(text), "stable-4.18", "stable-4.17", 1), `{"items":[`, `{"items":[{"kind":"CatalogSource","apiVersion":"operators.coreos.com/v1alpha1","metadata":{"namespace":"m","name":"c"},"spec":{"image":"`+s.address+`/`+used+`"}},`, 1)
		s.works(t, slices.Concat([]string{"pin", "cluster", s.file(t, "uses.json", uses)}, s.at())...)
		if goes, r := s.plan(t); goes != "4.18.1 4.18.2" || reasonOf(r, of) != reason {
			t.Errorf("%q would go, with a cluster that uses %s the catalog stays: %q", goes, used, reasonOf(r, of))
		}
	}
	s.pins(t, "stable-4.17", "4.17.2", "4.16.2")
	goes, r := s.plan(t)
	if goes != "4.18.1 4.18.2 index:v4.18" {
		t.Fatalf("%q would go: %+v", goes, r.Kept)
	}
	answer, err := json.Marshal(r)
	must(t, err)
	s.works(t, slices.Concat([]string{"prune", "--keep-reachable", "--delete-yaml-file", s.file(t, "plan.json", string(answer))}, s.at())...)
	after := s.tags(t)
	contains(t, after, "other/index:own", "operators/sample-logging-bundle:", "operators/sample-database-bundle:v1.1.0")
	for _, gone := range []string{"redhat/redhat-operator-index:v4.18", "operators/sample-database-operator:"} {
		if strings.Contains(after, gone) {
			t.Errorf("%s is still there:\n%s", gone, after)
		}
	}
}

// A release whose mirror has failed, or that is to come, may be on the way of a cluster.
func TestPruneReachable_gap(t *testing.T) {
	s := newSiteWithGraph(t, `  platform:
    channels: [{name: eus-4.18, full: true}]
  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-logging}]}]
`)
	s.deletes(t, "openshift/release-images/manifests/4.17.2-x86_64")
	s.pins(t, "eus-4.18", "4.16.2")
	goes, r := s.plan(t)
	for _, name := range []string{"4.18.1", "4.18.2"} {
		if want := "may come to it in channel eus-4.18 by 4.17.2, which is not here"; !strings.Contains(reasonOf(r, name), want) {
			t.Errorf("%s stays: %q", name, reasonOf(r, name))
		}
	}
	if goes != "" || !slices.Equal(r.Clusters[0].Reaches, []string{"4.16.2"}) {
		t.Errorf("%q would go, and it reaches %v", goes, r.Clusters[0].Reaches)
	}
	s.pins(t, "eus-4.18", "4.18.1", "4.17.2")
	if goes, _ := s.plan(t); goes != "4.16.2" {
		t.Errorf("of a cluster beyond it %q would go", goes)
	}
}

// The images of a release for several architectures may list those of one for a single one.
func TestPruneReachable_multi(t *testing.T) {
	s := newSiteWithGraph(t, "  platform:\n    architectures: [amd64, multi]\n    channels: [{name: stable-4.18, full: true}]\n")
	content, err := sample.New(s.source)
	must(t, err)
	text, err := os.ReadFile(s.export(t, "4.18.2"))
	must(t, err)
	single, _ := content.Release("4.18.2", "amd64")
	several, _ := content.Release("4.18.2", "multi")
	file := s.file(t, "cluster.json", strings.ReplaceAll(string(text), single.Digest.String(), several.Digest.String()))
	s.works(t, slices.Concat([]string{"pin", "cluster", file, "--name", "prod"}, s.at())...)
	goes, r := s.plan(t)
	if want := "4.18.1 4.18.1 (multi) 4.18.2 4.18.3"; goes != want || !slices.Equal(r.Clusters[0].Architectures, []string{"multi"}) {
		t.Fatalf("%q would go, not %q: %+v", goes, want, r.Clusters)
	}
	answer, err := json.Marshal(r)
	must(t, err)
	out := s.works(t, slices.Concat([]string{"prune", "--keep-reachable", "--delete-yaml-file", s.file(t, "plan.json", string(answer))}, s.at())...)
	if m := freed.FindStringSubmatch(out); m == nil || m[1] != strconv.FormatInt(r.Bytes, 10) {
		t.Errorf("the plan frees %d bytes, and gc says\n%s", r.Bytes, out)
	}
	s.whole(t, "4.18.2-multi", "4.18.3-multi")
}
