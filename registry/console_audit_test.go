package registry_test

import (
	"bufio"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestConsole_audit(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	hostile := "/v2/<script>alert(1)<%2Fscript>/manifests/\"x"
	for range 60 {
		r.as(t, "pull", http.MethodGet, "/api/v1/status")
	}
	r.as(t, "stranger", http.MethodGet, strings.ReplaceAll(hostile, "\"", "%22"))

	_, _, body := s.get(t, "/audit")
	for _, want := range []string{"stranger", "login failed", "/v2/&lt;script&gt;", `title="127.0.0.1:`, ">127.0.0.1<", `href="/audit?after=`, `sse-connect="/audit/live?since=`, `href="/audit/download?"`} {
		if !strings.Contains(body, want) {
			t.Errorf("the page has no %s", want)
		}
	}
	if strings.Contains(body, "<script>alert") || strings.Count(body, "<tr") != auditRows+1 {
		t.Errorf("the page has %d rows", strings.Count(body, "<tr"))
	}
	older := regexp.MustCompile(`href="(/audit\?after=\d+)"`).FindStringSubmatch(body)
	if _, _, body = s.get(t, older[1]); !strings.Contains(body, "user created") || !strings.Contains(body, "this host") ||
		strings.Contains(body, "sse-connect") || !strings.Contains(body, ">Newest<") {
		t.Error("the rest of the audit is not on the second page")
	}
	for query, want := range map[string]int{
		"user=pull&kind=access&event=refused": 50, "kind=administration": 3, "text=SCRIPT": 1, "user=nobody": 0, "to=2020-01-01": 0,
		"from=2020-01-01&text=user+created": 3, "from=2999-01-01": 0, "text=%25": 0,
	} {
		_, _, body := s.get(t, "/audit?"+query)
		if n := strings.Count(body, "<td class=\"pf-v6-c-table__td\" data-label=\"User\""); n != want || want == 0 && !strings.Contains(body, "Nothing matches") {
			t.Errorf("%s: %d rows, want %d", query, n, want)
		}
	}
	_, _, body = s.get(t, "/audit?user=pull&text=api%2Fv1")
	if !regexp.MustCompile(`href="/audit\?after=\d+&amp;text=api%2Fv1&amp;user=pull"`).MatchString(body) {
		t.Error("the second page has not the filter of the first")
	}
	for _, query := range []string{"from=yesterday", "after=x", "kind=none"} {
		if code, _, body := s.get(t, "/audit?"+query); code != http.StatusBadRequest || !strings.Contains(body, "pf-m-danger") {
			t.Errorf("%s: %d", query, code)
		}
	}
	if code, _, body := s.get(t, "/audit?from=0001-01-01&to=9999-12-31"); code != http.StatusOK || !strings.Contains(body, "stranger") {
		t.Errorf("all days that can be named: %d", code)
	}
	_, _, body = s.get(t, "/audit?text="+url.QueryEscape(`"><script>`))
	if strings.Contains(body, `"><script>`) {
		t.Error("a filter is not escaped")
	}
	for _, path := range []string{"/audit", "/audit/live", "/audit/download"} {
		if code, _, body := r.logIn(t, "push").get(t, path); code != http.StatusForbidden || strings.Contains(body, "stranger") {
			t.Errorf("%s for a user of role push: %d", path, code)
		}
	}
}

// auditRows is how many rows the first page has.
const auditRows = 50

func TestConsole_auditDownload(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	for range 3 {
		r.as(t, "stranger", http.MethodGet, "/v2/")
	}
	code, _, body := s.get(t, "/audit/download?kind=administration")
	lines := strings.Split(strings.TrimSpace(body), "\n")
	if code != http.StatusOK || len(lines) != 3 {
		t.Fatalf("%d %s", code, body)
	}
	var newest api.AuditRecord
	must(t, json.Unmarshal([]byte(lines[0]), &newest))
	if newest.Event != "user created" || newest.Details["name"] != "pull" {
		t.Errorf("the newest is %+v", newest)
	}
}

// What happens while the page is open appears on it, and only what the filter selects.
func TestConsole_auditLive(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/audit/live?kind=access&since=1", nil)
	must(t, err)
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	wait := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), text) {
				return
			}
			if strings.Contains(lines.Text(), "user created") {
				t.Fatal("it has what the filter does not select")
			}
		}
		t.Fatalf("it ends without %s: %v", text, lines.Err())
	}
	wait("Nothing matches")
	r.as(t, "stranger", http.MethodGet, "/v2/")
	wait("stranger")
}
