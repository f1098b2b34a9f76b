//go:build postgres

package registry_test

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/finding"
)

// What an administrator sees while the server is down: which one it is and what to look at, in bounded time.
func TestPostgres_down(t *testing.T) {
	p := startPostgres(t)
	r := start(t, p.on(t))
	r.image(t, "app:v1")
	browser := r.logIn(t, "admin")
	must(t, p.Halt())

	status, err := r.admin.Status(t.Context())
	must(t, err)
	if status.Healthy || status.Version == "" || status.Certificate.IsZero() || status.Family == nil || status.Store != nil {
		t.Errorf("the status is %+v", status)
	}
	told := map[string][]finding.Finding{}
	status.Examine(time.Now(), func(f finding.Finding) { told[f.Check] = append(told[f.Check], f) })
	if all := told["database"]; len(all) != 1 || all[0].Level != finding.Failed || !strings.HasPrefix(all[0].Subject, "postgres://login@/") ||
		!strings.Contains(all[0].Hint, "pg_isready") || !strings.Contains(all[0].Hint, "connects again by itself") || strings.Contains(all[0].Hint, "restore") {
		t.Errorf("told of the database are %+v", all)
	}
	if len(told["trouble"]) > 0 {
		t.Errorf("told twice: %+v", told["trouble"])
	}

	metrics := func(want ...string) {
		t.Helper()
		code, text := r.get(t, "/metrics")
		for _, line := range want {
			if code != http.StatusOK || !strings.Contains(text, line) {
				t.Errorf("the metrics, %d, lack %s:\n%s", code, line, text)
			}
		}
	}
	metrics(`appliance_healthy{service="database"} 0`, `appliance_healthy{service="disk_space"} 1`, `appliance_healthy{service="auth"} 0`,
		"appliance_build_info{", "appliance_certificate_not_after_timestamp_seconds ", "appliance_filesystem_free_bytes{", `appliance_family_role{role="primary"} 1`)
	r.unavailable(t, "unknown", "/metrics")
	r.unavailable(t, "unknown", "/mirror/cluster-resources/")
	if header, page := browser.unavailable(t, http.MethodGet, "/repositories"); header.Get("Refresh") != "5" || !strings.Contains(page, "<h1") ||
		!strings.Contains(page, "is not available") || !strings.Contains(page, "pg_isready") {
		t.Errorf("a page is answered %v\n%s", header, page)
	}
	browser.unavailable(t, http.MethodPost, "/login")

	must(t, p.Begin(t.Context()))
	r.await(t, "/v2/app/manifests/v1")
	metrics(`appliance_healthy{service="database"} 1`, "appliance_store_tags 1")
	if status, err := r.admin.Status(t.Context()); err != nil || !status.Healthy || len(status.Failing) > 0 {
		t.Errorf("afterwards the status is %+v, %v", status, err)
	}
}

// The first status of a server that accepts connections and answers nothing is as complete as later ones.
func TestPostgres_hangs(t *testing.T) {
	p := startPostgres(t)
	r := start(t, p.on(t))
	must(t, p.Freeze())
	status, err := r.admin.Status(t.Context())
	must(t, errors.Join(err, p.Thaw()))
	f := status.Failing["database"]
	if status.Healthy || !strings.HasPrefix(f.Problem, "the database postgres://login@/") || !strings.Contains(f.Problem, "no answer within 5s") || !strings.Contains(f.Hint, "pg_isready") ||
		len(status.Trouble) != 1 || status.Trouble[0] != f {
		t.Errorf("the status is %+v", status)
	}
}

// unavailable asserts that a browser is to ask again.
func (s *surfer) unavailable(t *testing.T, method, path string) (http.Header, string) {
	t.Helper()
	form := url.Values{"user": {"another"}, "password": {"another-password"}}
	req, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+path, strings.NewReader(form.Encode()))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := s.http.Do(req)
	must(t, err)
	page, err := io.ReadAll(resp.Body)
	must(t, errors.Join(err, resp.Body.Close()))
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s %s is answered %d %v", method, path, resp.StatusCode, resp.Header)
	}
	return resp.Header, string(page)
}
