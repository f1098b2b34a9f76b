package main

import (
	"bytes"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

// publishV1 mirrors from archives of version 1, and returns what it prints.
func (s *mirrorSetup) publishV1(t *testing.T, wantCode int, from, flags string) string {
	t.Helper()
	code, stdout, stderr := command(append([]string{"mirror", "--v1", "--from", from, "docker://" + s.destination + "/ns", "--dest-use-http"}, strings.Fields(flags)...)...)
	if code != wantCode {
		t.Fatalf("exit code %d, want %d\n%s%s", code, wantCode, stdout, stderr)
	}
	return stdout + stderr
}

// digestOf returns the digest of an image of the destination, "" if it has none.
func (s *mirrorSetup) digestOf(t *testing.T, repository, tag string) string {
	t.Helper()
	response, err := http.Head("http://" + s.destination + "/v2/" + repository + "/manifests/" + tag)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.Header.Get("Docker-Content-Digest")
}

func resultV1(t *testing.T, name string) string {
	t.Helper()
	found, err := filepath.Glob("oc-mirror-workspace/results-*/" + name)
	if err != nil || len(found) == 0 {
		t.Fatalf("%s: %v, %v", name, found, err)
	}
	text, err := os.ReadFile(found[len(found)-1])
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// All that an archive of version 1 has is published as version 1 does it: releases with their
// signatures, the graph image, a rebuilt catalog, additional images, and charts with their images.
// A component has its tags of all releases, of which the archive has one.
//
// Spec: oc-mirror 9.2, 9.3, 9.6, 9.7.
func TestMirrorV1_publishesItsArchive(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	a := newArchiveV1(t, s)
	a.mirror = `{"platform":{"graph":true,"channels":[{"name":"stable-4.18"}]},"additionalImages":[{"name":"` + s.source + `/samples/docker:v1"},{"name":"` + s.source + `/samples/lost:v1"}],"helm":{}}`
	a.release("4.18.1-x86_64", "cli-artifacts", "coredns", "etcd", "pod", "cluster-version-operator", "hyperkube", "machine-config-operator", "machine-os-images")
	a.release("4.18.2-x86_64", "cli-artifacts", "cluster-version-operator", "hyperkube", "machine-config-operator")
	a.catalog(s.source+"/my/index/v1", "stable", []string{"sample-database.v1.1.0", "sample-database.v1.2.0"}, "")
	docker := a.image("generic", "samples/docker", "v1", "samples/docker", "v1", "")
	ofChart := a.image("generic", "samples/docker-multi", "v1", "samples/docker-multi", "v1", "")
	a.image("generic", sample.BaseRepository, "latest", "ubi8/ubi-micro", "latest", "registry.access.redhat.com/ubi8/ubi-micro")
	chart, _ := a.get(sample.ChartsPath + "sample-app-1.0.0.tgz")
	data, _ := a.get(sample.GraphDataPath)
	a.add("charts/sample-app-1.0.0.tgz", chart)
	a.add("cincinnati/cincinnati-graph-data.tar.gz", data)
	a.write("disk", 3)
	s.sourceEmpty.Store(true) // nothing is asked but the archive

	out := s.publishV1(t, 0, "disk", "")
	says(t, out, "additional images mirrored successfully", s.source+"/samples/lost:v1 is not mirrored: the archive does not have it")
	if strings.Contains(out, "there is no signature of") {
		t.Errorf("a signature was not found:\n%s", out)
	}
	for _, at := range []string{"openshift/release-images:4.18.1-x86_64", "openshift/release-images:4.18.2-x86_64", "openshift/release:4.18.2-x86_64-etcd", "openshift/release:4.18.1-x86_64-cli",
		"openshift/graph-image:latest", "operators/sample-database-operator:v1.1.0", "ubi8/ubi-micro:latest", "oc-mirror:" + a.metadata.UID.String()} {
		if repository, tag, _ := strings.Cut(at, ":"); s.digestOf(t, "ns/"+repository, tag) == "" {
			t.Errorf("%s is missing", at)
		}
	}
	if got := s.digestOf(t, "ns/samples/docker", "v1") + s.digestOf(t, "ns/samples/docker-multi", "v1"); got != docker+ofChart {
		t.Errorf("the additional image and the chart's are %s", got)
	}
	if got := strings.Join(s.channels(t, "ns/my/index", "v1"), "\n"); got != "sample-database stable:v1.1.0 v1.2.0 " {
		t.Errorf("the catalog has %s", got)
	}
	if cmd := s.config(t, "ns/my/index", "v1").Config.Cmd; strings.Join(cmd, " ") != "serve /configs" {
		t.Errorf("the catalog's command is %v: it names a cache that is of other files", cmd)
	}
	says(t, resultV1(t, "imageContentSourcePolicy.yaml"), "source: "+s.source+"/openshift-release-dev/ocp-release\n", "- "+s.destination+"/ns/openshift/release-images\n", "- "+s.destination+"/ns/operators\n")
	says(t, resultV1(t, "catalogSource-cs-index.yaml"), "image: "+s.destination+"/ns/my/index:v1\n")
	says(t, resultV1(t, "updateService.yaml"), "graphDataImage: "+s.destination+"/ns/openshift/graph-image@sha256:")
	says(t, resultV1(t, "release-signatures/*.json"), `"binaryData"`)
	if resultV1(t, "charts/sample-app-1.0.0.tgz") != chart {
		t.Error("the chart is another one")
	}
}

// config returns the configuration of the first image of a list at the destination.
func (s *mirrorSetup) config(t *testing.T, repository, tag string) (of ocispec.Image) {
	t.Helper()
	var list ocispec.Index
	var m ocispec.Manifest
	parse := func(text string, into any) {
		if err := json.Unmarshal([]byte(text), into); err != nil {
			t.Fatal(err)
		}
	}
	parse(s.manifest(t, repository, tag), &list)
	parse(s.manifest(t, repository, list.Manifests[0].Digest.String()), &m)
	response, err := http.Get("http://" + s.destination + "/v2/" + repository + "/blobs/" + m.Config.Digest.String())
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if err := json.NewDecoder(response.Body).Decode(&of); err != nil {
		t.Fatal(err)
	}
	return of
}

// The second archive of an image set has what is new, and the whole catalog: what the first one had
// is read at the destination. Both together are published as one.
//
// Spec: oc-mirror 9.3, 9.4.
func TestMirrorV1_publishesSequences(t *testing.T) {
	for name, from := range map[string][]string{"one after the other": {"first", "second"}, "together": {"both"}} {
		t.Run(name, func(t *testing.T) {
			s := newMirrorSetup(t)
			t.Chdir(t.TempDir())
			a := newArchiveV1(t, s)
			a.mirror = `{"platform":{"graph":true},"operators":[{"catalog":"` + s.source + `/redhat/redhat-operator-index:v4.18"}],"additionalImages":[{"name":"` + s.source + `/samples/docker:v1"}],"helm":{}}`
			data, _ := a.get(sample.GraphDataPath)
			for n, dir := range []string{"first", "second"} {
				a.add("cincinnati/cincinnati-graph-data.tar.gz", data)
				delete(a.had, "cincinnati/cincinnati-graph-data.tar.gz") // it is in each
				if n == 0 {
					a.release("4.18.1-x86_64", "cli", "cli-artifacts", "coredns", "etcd", "pod", "cluster-version-operator", "hyperkube", "machine-config-operator", "machine-os-images")
					a.image("generic", "samples/docker", "v1", "samples/docker", "v1", "")
					a.image("generic", "samples/signed", "v1", "samples/signed", "v1", "")
					a.image("generic", sample.BaseRepository, "latest", "ubi8/ubi-micro", "latest", "registry.access.redhat.com/ubi8/ubi-micro")
					a.catalog(s.source+"/redhat/redhat-operator-index/v4.18", "stable", []string{"sample-database.v1.1.0"}, "")
				} else {
					a.metadata.PastAssociations = slices.DeleteFunc(a.metadata.PastAssociations, func(i metadata.Association) bool { return i.Path == "samples/signed" })
					a.release("4.18.2-x86_64", "cli-artifacts", "cluster-version-operator", "hyperkube", "machine-config-operator")
					for file := range a.had { // the catalog is in each
						if strings.HasPrefix(file, "catalogs/") {
							delete(a.had, file)
						}
					}
					a.catalog(s.source+"/redhat/redhat-operator-index/v4.18", "stable", []string{"sample-database.v1.1.0", "sample-database.v1.2.0"}, "")
				}
				a.write(dir, 1)
			}
			if err := os.CopyFS("both", os.DirFS("first")); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS("both", os.DirFS("second")); err != nil {
				t.Fatal(err)
			}
			s.sourceEmpty.Store(true)
			for _, dir := range from {
				if err := os.RemoveAll("oc-mirror-workspace"); err != nil { // another host
					t.Fatal(err)
				}
				if out := s.publishV1(t, 0, dir, ""); strings.Contains(out, "is not mirrored") {
					t.Errorf("from %s:\n%s", dir, out)
				}
			}
			if got := strings.Join(s.channels(t, "ns/redhat/redhat-operator-index", "v4.18"), "\n"); got != "sample-database stable:v1.1.0 v1.2.0 " {
				t.Errorf("the catalog has %s", got)
			}
			for _, at := range []string{"openshift/release-images:4.18.1-x86_64", "openshift/release-images:4.18.2-x86_64", "openshift/release:4.18.2-x86_64-etcd", "openshift/graph-image:latest", "samples/docker:v1"} {
				if repository, tag, _ := strings.Cut(at, ":"); s.digestOf(t, "ns/"+repository, tag) == "" {
					t.Errorf("%s is missing", at)
				}
			}
			if pruned := s.digestOf(t, "ns/samples/signed", "v1") == ""; pruned != (from[0] == "both") {
				t.Errorf("what the second archive does not count on any more is missing: %v", pruned)
			}
			says(t, s.publishV1(t, 0, "second", ""), "No diff from previous mirror (sequence is the same), nothing to do")
			if s.sourceEmpty.Store(false); from[0] == "both" {
				again := newArchiveV1(t, s)
				again.image("generic", "samples/docker", "v1", "samples/docker", "v1", "")
				again.metadata.PastMirror.Sequence = 2
				again.write("both", 1)
				says(t, s.publishV1(t, 1, "both", ""), "is of another image set than")
			}
		})
	}
}

// A bundle of which the archive lacks an image is not in the catalog that is published, and nothing
// is published of a release without a valid signature. The archive does not count as published
// then.
//
// Spec: oc-mirror 9.3.
func TestMirrorV1_publishesWithoutABundle(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	a := newArchiveV1(t, s)
	a.catalog(s.source+"/redhat/redhat-operator-index/v4.18", "stable", []string{"sample-database.v1.1.0", "sample-database.v1.2.0"}, "sample-database.v1.1.0")
	a.release("4.18.1-x86_64", "cli", "cli-artifacts", "coredns", "etcd", "pod", "cluster-version-operator", "hyperkube", "machine-config-operator", "machine-os-images")
	a.write("disk", 1)
	var out, errs bytes.Buffer
	if code := execute([]string{"describe", "--v1", "disk"}, stdio{in: strings.NewReader(""), out: &out, err: &errs}); code != 0 || !json.Valid(out.Bytes()) || !strings.Contains(out.String(), `"uid": "`+a.metadata.UID.String()) {
		t.Errorf("described as %s%s", out.String(), errs.String())
	}
	t.Setenv("OCP_SIGNATURE_VERIFICATION_PK", "")
	says(t, s.publishV1(t, 1, "disk", ""), "failed: "+s.source+"/operators/sample-database-bundle@sha256:", "bundle sample-database.v1.1.0 of operator sample-database")
	if got := strings.Join(s.channels(t, "ns/redhat/redhat-operator-index", "v4.18"), "\n"); got != "sample-database stable:v1.2.0 " {
		t.Errorf("the catalog has %s", got)
	}
	if s.digestOf(t, "ns/openshift/release", "4.18.1-x86_64-etcd") != "" {
		t.Error("a component of a release that failed is published")
	}
	if s.digestOf(t, "ns/oc-mirror", a.metadata.UID.String()) != "" {
		t.Error("the archive counts as published")
	}
	says(t, s.publishV1(t, 1, "disk", "-c "+s.writeV1(t, "mirror:\n  operators: [{catalog: 'HOST/redhat/other:v1'}]\n  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n")),
		"the archive has no catalog "+s.source+"/redhat/other:v1", "failed: "+s.source+"/samples/docker:v1 (isc.yaml:5)", "the archive does not have it: oc-mirror leaves out")
}
