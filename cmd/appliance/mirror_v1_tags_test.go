package main

import (
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// of returns the digest of an image of the upstream.
func (s *mirrorSetup) of(t *testing.T, image string) string {
	t.Helper()
	response, err := http.Head("http://" + s.source + "/v2/samples/" + image + "/manifests/v1")
	if err != nil {
		t.Fatal(err)
	}
	response.Body.Close()
	return response.Header.Get("Docker-Content-Digest")
}

// Images that are named by digest alone have version 1's tag, which mapping.txt names. A delete from the same workspace
// knows it, and so does an import of an archive.
//
// Spec: oc-mirror 9.7.
func TestMirrorV1_tagsOfDigests(t *testing.T) {
	s := newMirrorSetup(t)
	t.Chdir(t.TempDir())
	docker, oci := s.of(t, "docker"), s.of(t, "oci")
	s.v1(t, "mirror:\n  additionalImages: [{name: 'HOST/samples/docker@"+docker+"'}, {name: 'HOST/samples/oci:v1'}]\n", "")
	says(t, resultV1(t, "mapping.txt"), s.source+"/samples/docker@"+docker+"="+s.destination+"/ns/samples/docker:latest\n", "/ns/samples/oci:v1\n")
	if s.digestOf(t, "ns/samples/docker", "latest") != docker || s.has(t, "ns/samples/docker", strings.Replace(docker, ":", "-", 1)) {
		t.Error("the tag is not version 1's")
	}
	list := filepath.Join(t.TempDir(), "delete.yaml")
	writeText(t, list, "kind: DeleteImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\ndelete:\n  additionalImages: [{name: '"+s.source+"/samples/docker@"+docker+"'}]\n")
	code, stdout, stderr := command(strings.Fields("delete --generate -c " + list + " --workspace file://oc-mirror-workspace docker://" + s.destination + "/ns --dest-tls-verify=false")...)
	if code != 0 {
		t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
	}
	says(t, stdout, "/ns/samples/docker:latest\n1 image, of which 0 are not there")
	s.carried(t, docker, oci)
}

// carried mirrors two images in an archive of ours, and out of it.
func (s *mirrorSetup) carried(t *testing.T, first, second string) {
	t.Helper()
	file := s.rewriteV1(t, "mirror:\n  additionalImages: [{name: 'HOST/samples/docker@"+first+"'}, {name: 'HOST/samples/oci@"+second+"'}]\n")
	for _, line := range []string{"file://archive --source-use-http", "docker://" + s.destination + "/from --from archive --dest-use-http"} {
		code, stdout, stderr := command(append([]string{"mirror", "-c", file}, strings.Fields(line)...)...)
		if code != 0 {
			t.Fatalf("%s: exit code %d\n%s%s", line, code, stdout, stderr)
		}
	}
	if s.digestOf(t, "from/samples/docker", "latest") != first || s.digestOf(t, "from/samples/oci", "latest") != second {
		t.Error("the tags from an archive are not version 1's")
	}
}
