package registry_test

import (
	"net/http"
	"net/url"
	"os"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// shows fails unless a page has some texts, and lacks others, which begin with "!".
func (s *surfer) shows(t *testing.T, path string, want int, texts ...string) string {
	t.Helper()
	code, _, body := s.get(t, path)
	if code != want {
		t.Errorf("%s: %d\n%s", path, code, body)
	}
	for _, text := range texts {
		if without, is := strings.CutPrefix(text, "!"); is == strings.Contains(body, without) {
			t.Errorf("%s: %q is %v in\n%s", path, without, is, body)
		}
	}
	return body
}

func TestConsole_sync(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1", "samples/absent:v1")
	s, of := r.logIn(t, "admin"), "?file="+url.QueryEscape(file)
	s.shows(t, "/sync", 200, "set.yaml", "not yet", "every 1h", "Run now")
	s.shows(t, "/sync/set"+of, 200, "It has not run yet.", "samples/docker:v1", "appliance sync "+file)
	s.shows(t, "/sync/report"+of, 404, "has left a report")
	s.shows(t, "/sync/plan"+of, 200, "No plan yet")
	form := url.Values{"file": {file}}
	if code, at, body := s.send(t, "/sync/plan"+of, "/sync/plan", form); code != 200 || at != "/sync/plan"+of || !strings.Contains(body, "The plan is being made.") {
		t.Errorf("a plan: %d %s", code, at)
	}
	until(t, "the plan", func() bool {
		p, err := r.admin.MirrorPlan(t.Context(), file)
		return err == nil && p.Last != nil && p.Running == nil
	})
	s.shows(t, "/sync/plan"+of, 200, "1 image is missing", "1 image cannot be planned", "samples/absent:v1", "to fetch", "Plan again", "Run now")
	if code, at, body := s.send(t, "/sync/set"+of, "/sync/run", form); code != 200 || at != "/sync/set"+of || !strings.Contains(body, "The run has begun.") {
		t.Errorf("a run: %d %s", code, at)
	}
	until(t, "the run", func() bool { return r.mirrorOf(t, file).Last != nil })
	s.shows(t, "/sync", 200, "incomplete", "1 of 2 images")
	s.shows(t, "/sync/set"+of, 200, "incomplete", "samples/absent:v1", "Report of the last run")
	s.shows(t, "/sync/report"+of, 200, "1 image failed", "Mirrored images 1 to 1 of 1", "samples/absent:v1", "samples/docker:v1")
	if code, at, _ := s.send(t, "/sync/set"+of, "/sync/stop", form); code != 200 || at != "/sync/set"+of { // it has ended already
		t.Errorf("a stop: %d %s", code, at)
	}
	if log := r.log.String(); !strings.Contains(log, `event="mirror began" user=admin remote=127.0.0.1:`) {
		t.Errorf("the audit does not name the user and the address:\n%s", log)
	}
	for _, path := range []string{"/sync/set", "/sync/plan", "/sync/report"} {
		s.shows(t, path+"?file=/etc/passwd", 404, "The configuration has no image set /etc/passwd.", "!root:")
	}
	must(t, os.WriteFile(file, []byte("kind: <script>\n"), 0o600))
	s.shows(t, "/sync/set"+of, 200, "is not shown", "!<script>\n", "invalid configuration")
}

func TestConsole_syncHistory(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1", "samples/oci:v1")
	s := r.logIn(t, "admin")
	s.shows(t, "/sync/history", 200, "No run yet")
	_, err := r.admin.Mirror(t.Context(), api.MirrorRequest{ImageSet: file}, nil)
	must(t, err)
	past, err := r.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	run := "/sync/history/" + past[0].ID
	s.shows(t, "/sync/history", 200, `href="`+run+`"`, `href="`+run+`/rollback"`)
	s.shows(t, run, 200, "samples/docker:v1", "samples/oci:v1", "no image", "as the run left it", "Preview a rollback")
	s.shows(t, run+"?repository=samples/docker&tag=v1", 200, "!samples/docker:v1", "samples/oci:v1", "First page")
	s.shows(t, run+"/rollback", 200, "2 tags move", "Roll it back")
	s.shows(t, "/sync/history/none", 404, "committed run")
	s.shows(t, "/sync/history/none/rollback", 404, "committed run", "!Roll it back")
	if code, at, body := s.send(t, run+"/rollback", run+"/rollback", url.Values{}); code != 200 || at == run || !strings.Contains(body, "2 tags moved back.") || !strings.Contains(body, "deleted") && !strings.Contains(body, "as the run left it") {
		t.Errorf("a rollback: %d %s", code, at)
	}
	if code, _ := r.as(t, "pull", http.MethodGet, "/v2/samples/docker/manifests/v1"); code != http.StatusNotFound {
		t.Errorf("after the rollback the image is answered %d", code)
	}
	s.shows(t, run+"/rollback", 200, "nothing to roll back", "2 tags stay", "!Roll it back")
	s.shows(t, "/sync/history", 200, "Rollback of the run "+past[0].ID)
}

// What outsiders name is shown as text, found by it, and forgotten.
func TestConsole_syncMisses(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	s.shows(t, "/sync/misses", 200, "Clients got what they asked for.")
	s.shows(t, "/sync", 200, "No image set yet", "imageSet: ")
	r.as(t, "pull", http.MethodGet, "/v2/quay.io/org/image/manifests/v1")
	r.as(t, "pull", http.MethodGet, "/v2/somewhere/image/manifests/v2")
	s.shows(t, "/sync/misses", 200, "quay.io/org/image", "somewhere/image", "1 to 2 of 2")
	s.shows(t, "/sync/misses?search=somewhere", 200, "!quay.io/org/image", "1 to 1 of 1")
	s.shows(t, "/sync/misses?search=%3Cscript%3E", 200, "!<script>a", "Nothing is found")
	s.shows(t, "/sync/misses?after=1000", 200, "Clients got")
	s.shows(t, "/sync/misses/image-set", 200, "- name: quay.io/org/image:v1", "not in here, since it is not known where it comes from: somewhere/image v2")
	if code, at, body := s.send(t, "/sync/misses/clear", "/sync/misses/clear", url.Values{}); code != 200 || at != "/sync/misses" || !strings.Contains(body, "are forgotten") {
		t.Errorf("a clear: %d %s", code, at)
	}
	s.shows(t, "/sync/misses", 200, "Clients got what they asked for.")
}

func TestConsole_syncRoles(t *testing.T) {
	r, file := startWithSet(t, newSample(t), "samples/docker:v1")
	for _, user := range []string{"pull", "push"} {
		s := r.logIn(t, user)
		for _, page := range []string{"/sync", "/sync/live", "/sync/set", "/sync/set/live", "/sync/plan", "/sync/report", "/sync/history", "/sync/misses", "/sync/misses/image-set"} {
			s.shows(t, page+"?file="+url.QueryEscape(file), 403, "This page is for administrators.", "!set.yaml")
		}
		for _, action := range []string{"/sync/run", "/sync/stop", "/sync/plan", "/sync/history/x/rollback", "/sync/misses/clear"} {
			if code, _, _ := s.send(t, "/documentation", action, url.Values{"file": {file}}); code != http.StatusForbidden {
				t.Errorf("%s does %s: %d", user, action, code)
			}
		}
	}
	if s := r.mirrorOf(t, file); s.Last != nil || s.Running != nil {
		t.Errorf("it ran: %+v", s)
	}
}
