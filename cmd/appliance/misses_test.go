package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// What clients did not get is listed until it is held, also after a restart, and as an image set that mirrors it.
func TestMisses(t *testing.T) {
	s := newSite(t)
	list := func() (all []api.Miss) {
		t.Helper()
		must(t, json.Unmarshal([]byte(s.works(t, "misses", "-o", "json", "--quayRoot", s.root)), &all))
		return all
	}
	if got := list(); len(got) != 0 {
		t.Errorf("at first: %+v", got)
	}
	s.works(t, "upstream", "add", "up", "http://"+s.source, "--mode", "mirrored-only", "--quayRoot", s.root)
	for path, want := range map[string]int{
		"/v2/up/samples/docker/manifests/v1":                                         http.StatusForbidden,
		"/v2/samples/oci/manifests/v1":                                               http.StatusNotFound,
		"/v2/library/image/manifests/v1?ns=docker.io":                                http.StatusNotFound,
		"/v2/up/samples/docker/manifests/sha256-" + strings.Repeat("a", 64) + ".sig": http.StatusForbidden,
	} {
		if got := s.status(t, path); got != want {
			t.Errorf("%s: %d, want %d", path, got, want)
		}
	}
	s.status(t, "/v2/samples/oci/manifests/v1")
	got := list()
	if len(got) != 3 || got[0].Repository != "samples/oci" || got[0].Reference != "v1" || got[0].Count != 2 || got[0].User != "init" || got[0].Address != "127.0.0.1" {
		t.Errorf("the misses are %+v", got)
	}
	text := s.works(t, "misses", "--as-imageset", "--quayRoot", s.root)
	contains(t, text, "- name: "+s.source+"/samples/docker:v1\n", "- name: docker.io/library/image:v1\n", "# not in here, since it is not known where it comes from: samples/oci v1\n")
	if code, out, said := s.run(t, "misses", "--as-imageset", "-o", "json", "--quayRoot", s.root); code != 1 || out != "" || !strings.Contains(said, "--as-imageset prints YAML") {
		t.Errorf("as JSON: %d, %s%s", code, out, said)
	}
	s.stop(t)
	s.start(t)
	if again := list(); len(again) != len(got) {
		t.Errorf("after a restart: %+v", again)
	}
	s.mirror(t, s.set(t, "set.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"))
	contains(t, s.works(t, "misses", "--quayRoot", s.root), "up/samples/docker v1", "docker.io/library/image v1")
	if again := list(); len(again) != 2 {
		t.Errorf("once one is held: %+v", again)
	}
	s.works(t, "misses", "--clear", "--quayRoot", s.root)
	contains(t, s.works(t, "misses", "docker://"+s.address, "--dest-creds", "admin:"+faultPassword), "clients got what they asked for")
}
