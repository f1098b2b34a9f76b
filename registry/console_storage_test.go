package registry_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestConsole_storage(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	has := func(path string, all ...string) {
		t.Helper()
		code, _, body := s.get(t, path)
		for _, want := range all {
			if code != http.StatusOK || !strings.Contains(body, want) {
				t.Fatalf("%s: %d, without %q: %s", path, code, want, body)
			}
		}
	}
	has("/storage", "Nothing is stored yet", "never", "Scrub now")
	has("/storage/gc", "Make a dry run")
	has("/storage/damage", "No blob is known to be damaged")

	img, err := random.Image(3000, 1)
	must(t, err)
	must(t, remote.Write(tag(t, "team/app:v1"), img, r.remote(t, "push", password)...))
	must(t, remote.Write(tag(t, "team/other:v1"), img, r.remote(t, "push", password)...))
	for body := ""; !strings.Contains(body, `href="/repositories/team/app"`); { // until the test's time is over
		_, _, body = s.get(t, "/storage?search=app")
		if strings.Contains(body, `href="/repositories/team/other"`) {
			t.Fatal("what was not searched for is listed")
		}
	}
	has("/storage?search=%3Cscript%3E", "No repository has such a name", "&lt;script&gt;")
	has("/storage?after=x", "team/other")

	r.spoil(t, img)
	ended := func(done func(api.Status) bool) {
		t.Helper()
		for { // until the test's time is over
			status, err := r.admin.Status(t.Context())
			must(t, err)
			if done(status) {
				return
			}
		}
	}
	for path, notice := range map[string]string{"/storage/verify": "The verification has begun.", "/storage/scrub": "The scrub has begun."} {
		if code, at, body := s.send(t, "/storage", path, url.Values{"content": {"yes"}}); code != http.StatusOK || at != "/storage" || !strings.Contains(body, notice) {
			t.Errorf("%s: %d %s", path, code, at)
		}
		ended(func(now api.Status) bool {
			return path == "/storage/verify" && now.Verify == nil && now.LastVerify != nil ||
				path == "/storage/scrub" && now.Scrub == nil && now.LastScrub != nil
		})
	}
	has("/storage/damage", "team/app:v1", "Push or mirror these images again.")
	has("/storage", "1 were damaged")
	has("/", "1 blob is damaged and out of service", `href="/storage/damage"`)

	if code, at, _ := s.send(t, "/storage/gc", "/storage/gc/plan", url.Values{}); code != http.StatusOK || at != "/storage/gc" {
		t.Errorf("a dry run: %d %s", code, at)
	}
	for plan := (api.GCPlan{}); plan.Last == nil; { // until the test's time is over
		plan, err = r.admin.GCPlan(t.Context())
		must(t, err)
	}
	has("/storage/gc", "There is nothing to remove.")
	if code, at, _ := s.send(t, "/storage/gc", "/storage/gc", url.Values{}); code != http.StatusOK || at != "/storage" {
		t.Errorf("a collection: %d %s", code, at)
	}
	ended(func(now api.Status) bool { return now.GC == nil && now.LastGC != nil })
	has("/", "Freed 0 B", "Pulls", "foreseen", "Its CA")

	pull := r.logIn(t, "pull")
	for _, path := range []string{"/storage", "/storage/live", "/storage/gc", "/storage/gc/live", "/storage/damage"} {
		if code, _, _ := pull.get(t, path); code != http.StatusForbidden {
			t.Errorf("a user of role pull gets %s: %d", path, code)
		}
	}
	for _, path := range []string{"/storage/gc", "/storage/gc/plan", "/storage/scrub", "/storage/verify"} {
		if code, _, _ := pull.send(t, "/documentation", path, url.Values{}); code != http.StatusForbidden {
			t.Errorf("a user of role pull acts by %s: %d", path, code)
		}
	}
}

// TestRun_traffic counts a push and a pull while they are under way.
func TestRun_traffic(t *testing.T) {
	r := start(t)
	traffic := func() api.Traffic {
		t.Helper()
		s, err := r.admin.Status(t.Context())
		must(t, err)
		return *s.Traffic
	}
	content, w := io.Pipe()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+"/v2/a/blobs/uploads/", http.NoBody)
	must(t, err)
	req.SetBasicAuth("push", password)
	resp, err := r.http.Do(req)
	must(t, err)
	resp.Body.Close()
	at, err := resp.Location()
	must(t, err)
	req, err = http.NewRequestWithContext(t.Context(), http.MethodPatch, at.String(), content)
	must(t, err)
	req.SetBasicAuth("push", password)
	ended := make(chan error)
	go func() {
		resp, err := r.http.Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		ended <- err
	}()
	_, err = w.Write(make([]byte, 1<<20))
	must(t, err)
	for now := traffic(); now.Pushes.Requests != 1 || now.Pushes.BytesPerSecond < 1<<20/5; { // until the test's time is over
		now = traffic()
	}
	must(t, w.Close())
	must(t, <-ended)
	if now := traffic(); now.Pulls.Requests != 0 || now.Pulls.BytesPerSecond != 0 {
		t.Errorf("a push counts as %+v", now)
	}
	for now := traffic(); now.Pushes.Requests != 0; {
		now = traffic()
	}
}
