//go:build e2e

package main_test

import (
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
)

// words is the step that fails unless the page has a text.
func words(text string) []string { return []string{"text", "main", text} }

// syncSite is an appliance with image sets of its own: one that can be mirrored but for one image, and one whose
// file is wrong. Its upstream sends blobs of samples/oci-multi once release is closed.
func syncSite(t *testing.T) (s *site, set string, release chan struct{}) {
	t.Helper()
	conf := filepath.Join(t.TempDir(), "registries.conf")
	t.Setenv("CONTAINERS_REGISTRIES_CONF", conf)
	s, release = newSite(t), make(chan struct{})
	must(t, os.WriteFile(conf, []byte("[[registry]]\nlocation = '"+s.source+"'\ninsecure = true\n"), 0o600))
	content := s.upstream.Config.Handler
	s.upstream.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/samples/oci-multi/blobs/") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		content.ServeHTTP(w, r)
	})
	set = s.set(t, "openshift-4.18-and-operators.yaml", "  additionalImages: [{name: 'HOST/samples/oci-multi:v1'}, {name: 'HOST/samples/docker:v1'}, {name: 'HOST/samples/absent:v1'}]\n")
	wrong := s.file(t, "mistyped.yaml", "kind: ImageSetConfiguration\napiVersion: mirror.openshift.io/v2alpha1\nmirror:\n  additionalImage: []\n")
	s.configure(t, func(c *config.Config) {
		c.Sync = []config.Sync{{ImageSet: set, Workspace: filepath.Join(s.dir, "base"), Interval: 12 * time.Hour},
			{ImageSet: wrong, Workspace: filepath.Join(s.dir, "mistyped"), Interval: time.Hour}}
	})
	return s, set, release
}

// settled waits until no run of an image set is under way, or one is that has planned.
func (s *site) settled(t *testing.T, set string, running bool) {
	t.Helper()
	eventuallyHolds(t, "the run of "+set, func() bool {
		all, err := s.admin.Mirrors(t.Context())
		must(t, err)
		for _, m := range all {
			if m.ImageSet == set {
				return running && m.Running != nil && len(m.Running.Copying) > 0 || !running && m.Running == nil && m.Last != nil
			}
		}
		return false
	})
}

// lookAtSync looks at the image sets before, in and after a run, and at what runs have left.
func lookAtSync(t *testing.T) {
	s, set, release := syncSite(t)
	of := "?file=" + url.QueryEscape(set)
	s.look(t, "sync", []looked{
		{Name: "sync-new", Path: "/sync", Do: [][]string{words("not yet"), words("mistyped.yaml")}},
		{Name: "set-new", Path: "/sync/set" + of, Do: [][]string{words("It has not run yet.")}},
		{Name: "plan-empty", Path: "/sync/plan" + of, Do: [][]string{words("No plan yet")}},
		{Name: "report-none", Path: "/sync/report" + of, Do: [][]string{words("has left a report")}},
	})
	_, err := s.admin.PlanMirror(t.Context(), set, nil)
	must(t, err)
	must(t, s.admin.BeginMirror(t.Context(), set))
	s.settled(t, set, true)
	s.look(t, "sync", []looked{
		{Name: "plan", Path: "/sync/plan" + of, Do: [][]string{words("2 images are missing"), words("1 image cannot be planned")}},
		{Name: "sync-live", Path: "/sync", Do: [][]string{{"wait", "progress"}, words("Stop")}},
		{Name: "set-live", Path: "/sync/set" + of, Do: [][]string{{"wait", "progress"}, words("The run under way")}},
	})
	close(release)
	s.settled(t, set, false)
	s.tag(t, "samples/oci-multi:v1", "samples/docker:v1") // which the next run moves back
	must(t, s.admin.BeginMirror(t.Context(), set))
	s.settled(t, set, false)
	for _, path := range []string{"quay.io/org/image", "registry.redhat.io/openshift-logging/cluster-logging-rhel9-operator", "somewhere/image"} {
		s.status(t, "/v2/"+path+"/manifests/v1")
	}
	s.status(t, "/v2/somewhere/image/manifests/"+digest.FromString("an image").String())
	s.look(t, "sync", []looked{
		{Name: "sync", Path: "/sync", Do: [][]string{words("incomplete")}},
		{Name: "set", Path: "/sync/set" + of, Do: [][]string{words("samples/absent:v1")}},
		{Name: "set-wrong", Path: "/sync/set?file=" + url.QueryEscape(filepath.Join(s.dir, "mistyped.yaml"))},
		{Name: "report", Path: "/sync/report" + of, Do: [][]string{words("1 image failed"), words("samples/docker:v1")}},
		{Name: "history", Path: "/sync/history", Do: [][]string{words("Roll back")}},
		{Name: "history-changes", Path: "/sync/history", Do: [][]string{{"click", "main td a"}, words("as the run left it"), words("samples/docker:v1")}},
		{Name: "history-rollback", Path: "/sync/history", Do: [][]string{{"click", "text=Roll back"}, words("Roll it back")}},
		{Name: "history-rollback-error", Path: "/sync/history/none/rollback", Do: [][]string{words("committed run")}},
		{Name: "misses", Path: "/sync/misses", Do: [][]string{words("cluster-logging"), words("1 to 4 of 4")}},
		{Name: "misses-nothing", Path: "/sync/misses?search=none", Do: [][]string{words("Nothing is found")}},
		{Name: "misses-set", Path: "/sync/misses/image-set", Do: [][]string{words("quay.io/org/image:v1")}},
		{Name: "misses-clear", Path: "/sync/misses/clear", Do: [][]string{words("4 misses are forgotten")}},
	})
	// Each variant rolls back what is there by then, which the next one rolls back in turn.
	s.look(t, "sync", []looked{
		{Name: "history-rolled-back", Path: "/sync/history", Do: [][]string{{"click", "text=Roll back"}, {"click", "main form button.pf-m-danger"},
			{"gone", "main form button.pf-m-danger"}, words("1 tag moved back.")}},
	})
}

// lookAtUpstreams looks at upstreams of which one answers, with and without a way to them.
func lookAtUpstreams(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.works(t, "upstream", "add", "registry.redhat.io", "http://"+s.source, "--quayRoot", s.root)
	s.works(t, "upstream", "add", "quay.io", "http://127.0.0.1:1", "--quayRoot", s.root)
	if status := s.status(t, "/v2/registry.redhat.io/samples/docker/manifests/v1"); status != http.StatusOK {
		t.Fatal(status)
	}
	s.status(t, "/v2/quay.io/samples/docker/manifests/v1")
	test := []string{"click", "form[action='/upstreams/test'] button"}
	s.look(t, "upstreams", []looked{
		{Name: "upstreams", Path: "/upstreams", Do: [][]string{words("registry.redhat.io"), words("quay.io")}},
		{Name: "upstreams-tested", Path: "/upstreams", Do: [][]string{test, {"wait", "table[aria-label='What the test found']"}, words("connection refused"), words("It answers")}},
		{Name: "upstreams-test-error", Path: "/upstreams", Do: [][]string{{"fill", "#image", "not an image"}, test, {"wait", "main .pf-m-danger"}}},
	})
	_, err := s.admin.SetOffline(t.Context(), true)
	must(t, err)
	s.look(t, "upstreams", []looked{
		{Name: "upstreams-offline", Path: "/upstreams", Do: [][]string{words("The registry is offline."), words("Go online")}},
		{Name: "upstreams-offline-tested", Path: "/upstreams", Do: [][]string{test, {"wait", "main .pf-m-danger"}}},
		{Name: "overview-offline", Path: "/", Do: [][]string{words("offline")}},
	})
}

// lookAtDamage looks at a store with blobs that a scrub found damaged: one of a mirrored image, whose source does not
// answer, one of an image that was pushed, and one that the last verification found.
func lookAtDamage(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	pushed := newTestImage("team/app", "v1", randomBytes(2<<20))
	must(t, s.push(t.Context(), pushed))
	s.mirror(t, s.set(t, "set.yaml", "  additionalImages: [{name: 'HOST/samples/docker:v1'}]\n"))
	image, err := s.admin.Image(t.Context(), api.Place{Repository: "samples/docker", Reference: "v1"})
	must(t, err)
	s.upstream.Close()
	for _, d := range []digest.Digest{digest.FromBytes(pushed.contents[0]), image.Layers[0].Digest} {
		change(t, blobFile(s.cfg, d), func(c []byte) []byte { c[len(c)/2] ^= 0x10; return c })
	}
	report, err := s.admin.Scrub(t.Context(), api.ScrubRequest{}, nil)
	must(t, err)
	if report.Damaged != 2 {
		t.Fatalf("the scrub finds %+v", report)
	}
	must(t, s.admin.BeginVerify(t.Context(), api.VerifyRequest{}))
	eventuallyHolds(t, "the verification", func() bool {
		damage, err := s.admin.Damage(t.Context())
		return err == nil && damage.Verified != nil
	})
	s.look(t, "damage", []looked{
		{Name: "storage-damage", Path: "/storage/damage", Do: [][]string{words("team/app"), words("samples/docker"), words("What the last verification found")}},
		{Name: "storage-damaged", Path: "/storage"},
		{Name: "overview-damaged", Path: "/", Do: [][]string{words("2 blobs are damaged")}},
		{Name: "image-damaged", Path: "/repositories/team/app?image=v1"},
	})
}
