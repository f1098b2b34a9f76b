package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// What is pinned is fetched whole, and served without the upstream when everything else was evicted.
func TestPin(t *testing.T) {
	s := newSite(t)
	s.configure(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: "http://" + s.source}} })
	const other = "/v2/up/samples/docker/manifests/v1"
	if got := s.status(t, other); got != http.StatusOK {
		t.Fatalf("what is not pinned: %d", got)
	}
	contains(t, s.works(t, "pin", "list", "--quayRoot", s.root), "nothing is pinned")
	code, stdout, stderr := s.run(t, "pin", "--quayRoot", s.root, "up/samples/docker-multi:v1", s.source+"/samples/oci:v1", "up/samples/none:v1", "elsewhere/a:v1", "a b")
	if code != 1 || !strings.Contains(stderr, "3 of 5 images not pinned") {
		t.Errorf("exit code %d, %s", code, stderr)
	}
	contains(t, stdout, "pinned up/samples/docker-multi@sha256:", "pinned up/samples/oci@sha256:", ": whole, ", "up/samples/none:v1: ", "elsewhere/a:v1: ", "hint: name it as it is pulled here", "a b: ")
	list := func() (all []api.PinnedImage) {
		t.Helper()
		must(t, json.Unmarshal([]byte(s.works(t, "pin", "list", "-o", "json", "--quayRoot", s.root)), &all))
		return all
	}
	all := list()
	if len(all) != 2 || all[0].Repository != "up/samples/docker-multi" || all[0].Held != all[0].Parts || all[0].Bytes == 0 || strings.Join(all[0].Tags, " ") != "v1" {
		t.Fatalf("the list is %+v", all)
	}

	s.upstream.Close()
	s.configure(t, func(c *config.Config) { c.PullQuota = 1 })
	s.gone(t, other)
	for _, image := range []string{"up/samples/docker-multi", "up/samples/oci"} {
		if got := s.status(t, "/v2/"+image+"/manifests/v1"); got != http.StatusOK {
			t.Errorf("%s: %d", image, got)
		}
	}
	contains(t, s.works(t, "pin", "--quayRoot", s.root, s.address+"/"+all[1].Repository+":v1@"+all[1].Digest.String()),
		"pinned up/samples/oci@", "warning: the upstream could not be asked for all signatures")
	contains(t, s.works(t, "pin", "remove", "up/samples/oci:v1", "--quayRoot", s.root), "unpinned up/samples/oci@sha256:")
	if code, stdout, _ := s.run(t, "pin", "remove", "up/samples/oci:v1", "--quayRoot", s.root); code != 1 || !strings.Contains(stdout, "is not pinned\nhint: appliance pin list") {
		t.Errorf("once more: exit code %d, %s", code, stdout)
	}
	s.stop(t)
	if all := list(); len(all) != 1 { // while it does not run
		t.Errorf("the list is %+v", all)
	}
	s.start(t)
	s.gone(t, "/v2/up/samples/oci/manifests/v1")
	if got := s.status(t, "/v2/up/samples/docker-multi/manifests/v1"); got != http.StatusOK {
		t.Errorf("what is still pinned: %d", got)
	}
}

// gone waits until a path is not served any more.
func (s *site) gone(t *testing.T, path string) {
	t.Helper()
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if s.status(t, path) != http.StatusOK {
			return
		}
	}
	t.Errorf("%s is still there", path)
}

// What was mirrored is kept without a pin, and a pin of an image that cannot be fetched whole is taken back.
func TestPin_notNeededAndNotWhole(t *testing.T) {
	s := newSite(t)
	s.mirror(t, s.set(t, "set.yaml", "  additionalImages: [{name: 'HOST/samples/oci:v1'}]\n"))
	contains(t, s.works(t, "pin", "samples/oci:v1", "--quayRoot", s.root), "kept samples/oci@sha256:", "it was pushed or mirrored")

	inner := s.upstream.Config.Handler
	upstream, _ := counting(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/blobs/") {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	s.configure(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL}} })
	if code, stdout, _ := s.run(t, "pin", "up/samples/docker:v1", "--quayRoot", s.root); code != 1 || !strings.Contains(stdout, "403") {
		t.Errorf("exit code %d, %s", code, stdout)
	}
	contains(t, s.works(t, "pin", "list", "--quayRoot", s.root), "nothing is pinned")
	s.stop(t)
	if code, _, stderr := s.run(t, "pin", "up/samples/docker:v1", "--quayRoot", s.root); code != 1 || !strings.Contains(stderr, "start it: systemctl start appliance") {
		t.Errorf("while it does not run: exit code %d, %s", code, stderr)
	}
}

// A kill while an image is fetched leaves no pin of it, and a pin of before stays.
func TestPin_killed(t *testing.T) {
	s := newSite(t)
	inner, fetching, held := s.upstream.Config.Handler, make(chan struct{}), make(chan struct{})
	var once sync.Once
	upstream, _ := counting(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/samples/docker/blobs/") && r.Method == http.MethodGet {
			once.Do(func() { close(fetching) })
			<-held
		}
		inner.ServeHTTP(w, r)
	}))
	s.configure(t, func(c *config.Config) { c.Upstreams = []config.Upstream{{Prefix: "up", URL: upstream.URL}} })
	s.works(t, "pin", "up/samples/oci:v1", "--quayRoot", s.root)
	pinned := make(chan string)
	go func() {
		_, stdout, stderr := s.run(t, "pin", "up/samples/docker:v1", "--quayRoot", s.root)
		pinned <- stdout + stderr
	}()
	<-fetching
	s.kill()
	close(held)
	if said := <-pinned; !strings.Contains(said, "error: ") {
		t.Errorf("the command says\n%s", said)
	}
	s.start(t)
	if stdout := s.works(t, "pin", "list", "--quayRoot", s.root); strings.Contains(stdout, "samples/docker@") || !strings.Contains(stdout, "samples/oci@") {
		t.Errorf("pinned are\n%s", stdout)
	}
	s.works(t, "pin", "up/samples/docker:v1", "--quayRoot", s.root)
	s.kill()
	s.start(t)
	contains(t, s.works(t, "pin", "list", "--quayRoot", s.root), "samples/docker@", "samples/oci@")
}
