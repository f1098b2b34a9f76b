package main

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
	"github.com/mirror-appliance/appliance/mirror/metadata"
)

const storedLocally = "storageConfig: {local: {path: history}}\n"

// v1 mirrors, and returns what it prints.
func (s *mirrorSetup) v1(t *testing.T, config, flags string) string {
	t.Helper()
	code, out := s.tryV1(t, config, flags)
	if code != 0 {
		t.Fatalf("exit code %d\n%s", code, out)
	}
	return out
}

func (s *mirrorSetup) tryV1(t *testing.T, config, flags string) (int, string) {
	t.Helper()
	line := "-c " + s.rewriteV1(t, config) + " --source-use-http --dest-use-http docker://" + s.destination + "/ns " + flags
	code, stdout, stderr := command(append([]string{"mirror"}, strings.Fields(line)...)...)
	return code, stdout + stderr
}

// has reports whether the destination has an image.
func (s *mirrorSetup) has(t *testing.T, repository, ref string) bool {
	t.Helper()
	response, err := http.Get("http://" + s.destination + "/v2/" + repository + "/manifests/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.StatusCode == http.StatusOK
}

func remembered(t *testing.T, dir string) *metadata.Metadata {
	t.Helper()
	m, err := metadata.Read(t.Context(), metadata.Directory(dir))
	if err != nil || m == nil {
		t.Fatalf("metadata %v, %v", m, err)
	}
	return m
}

// With a history runs are numbered, and what is no longer asked for is deleted.
//
// Spec: oc-mirror 9.4, 9.5.
func TestMirrorV1_goesOn(t *testing.T) {
	const two = "mirror:\n  additionalImages: [{name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/oci-multi:v1'}]\n"
	const one = "mirror:\n  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	s.v1(t, storedLocally+two, "")
	first := remembered(t, "history")
	if first.PastMirror.Sequence != 1 || !s.has(t, "ns/oc-mirror", first.UID.String()) {
		t.Errorf("after the first run: %+v", first)
	}
	lists, names := 0, map[string]bool{}
	for _, a := range first.PastAssociations {
		names[a.Name] = true
		if len(a.ManifestDigests) > 0 {
			lists++
		}
		if a.Type != "generic" || !strings.HasPrefix(a.Path, s.destination+"/ns/samples/") {
			t.Errorf("an association is %+v", a)
		}
	}
	if lists != 1 || !names[s.source+"/samples/docker@"+s.digestOf(t, "ns/samples/docker", "v1")] || len(names) < 4 {
		t.Errorf("%d lists among %v", lists, names)
	}
	if out := s.v1(t, storedLocally+one, "--dry-run"); !strings.Contains(out, "would be deleted after the run") || !s.has(t, "ns/samples/oci-multi", "v1") {
		t.Errorf("a dry run says\n%s", out)
	}
	if m := remembered(t, "history"); m.PastMirror.Sequence != 1 {
		t.Errorf("after a dry run: %+v", m.PastMirror)
	}
	s.v1(t, storedLocally+one, "--skip-pruning")
	if !s.has(t, "ns/samples/oci-multi", "v1") {
		t.Error("--skip-pruning deletes")
	}
	s.v1(t, storedLocally+one, "")
	last := remembered(t, "history")
	if last.UID != first.UID || last.PastMirror.Sequence != 3 || len(last.PastAssociations) != 1 || s.has(t, "ns/samples/oci-multi", "v1") || !s.has(t, "ns/samples/docker", "v1") {
		t.Errorf("after the last run: %+v", last)
	}
}

// What oc-mirror v1 has remembered counts: from where channels are mirrored, what may be deleted, and the sequence.
//
// Spec: oc-mirror 9.4, 9.5.
func TestMirrorV1_goesOnFromItsMetadata(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	s.v1(t, "mirror:\n  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n", "--dir other")
	list, err := os.ReadFile("other/working-dir/mirrored.json")
	if err != nil {
		t.Fatal(err)
	}
	var images map[string][]struct{ Digest string }
	if err := json.Unmarshal(list, &images); err != nil {
		t.Fatal(err)
	}
	d := images[s.destination+"/ns/samples/oci:v1"][0].Digest
	text := strings.NewReplacer("HOST", s.source, "DEST", s.destination, "DIGEST", d).Replace(`{"kind":"Metadata","apiVersion":"mirror.openshift.io/v1alpha2",
		"uid":"b8d4c0f6-0d4e-4a3c-9d55-4fb6cb0b1f5c","singleUse":false,"pastMirror":{"timestamp":1700000000,"sequence":3,"mirror":{},
		"operators":[{"catalog":"HOST/redhat/redhat-operator-index:v4.18","imagePin":"x","packages":[{"name":"sample-database","channels":[{"name":"stable","minVersion":"1.1.0"}]}]}],
		"platforms":[{"channel":"stable-4.18","minVersion":"4.18.2"}]},
		"pastAssociations":[{"name":"HOST/samples/oci:v1","path":"DEST/ns/samples/oci:v1","id":"DIGEST","tagSymlink":"v1","type":"generic","layerDigests":["DIGEST"]}]}`)
	if err := os.MkdirAll("history/publish", 0o750); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("history/publish/.metadata.json", []byte(text), 0o640); err != nil {
		t.Fatal(err)
	}
	const config = storedLocally + "mirror:\n  platform: {channels: [{name: stable-4.18}]}\n" +
		"  operators: [{catalog: 'HOST/redhat/redhat-operator-index:v4.18', packages: [{name: sample-database, channels: [{name: stable}]}]}]\n"
	if code, out := s.tryV1(t, config, ""); code != 1 || !strings.Contains(out, "expecting imageset with prefix mirror_seq1: invalid mirror sequence order, want 1, got 4") ||
		!strings.Contains(out, "hint: storageConfig has runs into another destination") || strings.Contains(out, "from the archive") {
		t.Errorf("a sequence that does not follow ends with %d\n%s", code, out)
	}
	t.Setenv("UPDATE_URL_OVERRIDE", "http://"+s.source+sample.GraphPath)
	s.v1(t, config, "--skip-metadata-check")
	if got := strings.Join(s.channels(t, "ns/redhat/redhat-operator-index", "v4.18"), "\n"); got != "sample-database stable:v1.1.0 v1.2.0 " {
		t.Errorf("the catalog has\n%s", got)
	}
	if !s.has(t, "ns/openshift/release-images", "4.18.2-x86_64") || s.has(t, "ns/openshift/release-images", "4.18.1-x86_64") {
		t.Error("the releases are not those from 4.18.2 on")
	}
	if s.has(t, "ns/samples/oci", d) {
		t.Error("what version 1 has mirrored and is no longer asked for is there")
	}
	m := remembered(t, "history")
	if text := string(m.PastMirror.Mirror); !strings.Contains(text, `{"maxVersion":"4.18.3","minVersion":"4.18.2","name":"stable-4.18"}`) {
		t.Errorf("it has not the versions, without which version 1 fails: %s", text)
	}
	if pin := m.PastMirror.Operators[0].ImagePin; !strings.HasPrefix(pin, s.source+"/redhat/redhat-operator-index@sha256:") {
		t.Errorf("the catalog was %s", pin)
	}
	if m.PastMirror.Sequence != 4 || m.UID.String() != "b8d4c0f6-0d4e-4a3c-9d55-4fb6cb0b1f5c" || m.PastMirror.Platforms[0].MinVersion != "4.18.2" ||
		m.PastMirror.Operators[0].Packages[0].Channels[0].MinVersion != "1.1.0" {
		t.Errorf("remembered %+v", m)
	}
	s.v1(t, config, "") // the sequence follows now
}

// Spec: oc-mirror 9.4.
func TestMirrorV1_historyInARegistry(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	config := "storageConfig: {registry: {imageURL: '" + s.destination + "/history/of-mirror', skipTLS: true}}\nmirror:\n  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"
	s.v1(t, config, "")
	if !s.has(t, "history/of-mirror", "latest") {
		t.Fatal("there is no metadata at the registry")
	}
	s.v1(t, config, "") // the second of the sequence, or it would be refused
	if files, err := filepath.Glob("*/publish"); err != nil || len(files) > 0 {
		t.Errorf("metadata is in %v, %v", files, err)
	}
	// into an archive, the source alone remembers
	code, stdout, stderr := command("mirror", "-c", s.writeV1(t, config), "--source-use-http", "--dest-use-http", "file://disk")
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	if code, out := s.tryV1(t, config, ""); code != 1 || !strings.Contains(out, "want 3, got 4") {
		t.Errorf("exit code %d\n%s", code, out)
	}
}

// Of damaged metadata the file is named, and what is to be done helps: the destination has a copy.
func TestMirrorV1_damagedMetadata(t *testing.T) {
	const one = "mirror:\n  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	s.v1(t, storedLocally+one, "")
	of := remembered(t, "history").UID.String()
	if err := os.Truncate("history/publish/.metadata.json", 0); err != nil {
		t.Fatal(err)
	}
	code, out := s.tryV1(t, storedLocally+one, "")
	if code != 1 || !strings.Contains(out, "history/publish/.metadata.json: metadata of oc-mirror v1") || !strings.Contains(out, "storageConfig.registry.imageURL") {
		t.Errorf("exit code %d\n%s", code, out)
	}
	s.v1(t, "storageConfig: {registry: {imageURL: '"+s.destination+"/ns/oc-mirror:"+of+"', skipTLS: true}}\n"+one, "")
}
