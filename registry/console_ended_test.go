package registry_test

import (
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/console/consoletest"
)

// part sends a form as htmx does.
func (s *surfer) part(t *testing.T, path, csrf string, form url.Values) (code int, header http.Header, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+path, strings.NewReader(form.Encode()))
	must(t, err)
	for name, value := range map[string]string{"Content-Type": "application/x-www-form-urlencoded", "HX-Request": "true", "HX-Current-URL": "https://" + host + path, "X-CSRF-Token": csrf} {
		req.Header.Set(name, value)
	}
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header, string(data)
}

// What is sent after the login has ended is not done, and the user is told so where the form is, or before
// the next login. A form that htmx sends can be sent again once another tab has logged in.
func TestConsole_formAfterItsLogin(t *testing.T) {
	r := start(t)
	s, typed := r.logIn(t, "admin"), url.Values{"text": {"kind: ImageSetConfiguration\n"}, "do": {"show"}}
	csrf := consoletest.CSRF(s.wants(t, "/sync/edit"))
	_, _, _ = s.send(t, "/", "/logout", url.Values{})

	code, header, body := s.part(t, "/sync/edit", csrf, typed)
	if contains(t, "a part", body, "Your login has ended", "Log in in another tab"); code != http.StatusUnauthorized || header.Get("HX-Retarget") != "#problem" || strings.Contains(body, "<html") {
		t.Errorf("a part without a login: %d %v %s", code, header, body)
	}
	code, at, body := s.post(t, "/users", url.Values{"csrf": {csrf}, "name": {"new"}})
	if contains(t, "a form", body, "what you sent was not done", `name="next" value="/users"`); code != http.StatusOK || at != "/login?ended=true&next=%2Fusers" {
		t.Errorf("a form without a login leads to %s: %d", at, code)
	}
	if _, at, body := s.post(t, "/logout", nil); at != "/login" || strings.Contains(body, "not done") {
		t.Errorf("a second logout leads to %s: %s", at, body)
	}

	if code, at, _ := s.post(t, "/login", url.Values{"user": {"admin"}, "password": {password}}); code != http.StatusOK || at == "/login" {
		t.Fatalf("a login: %d %s", code, at)
	}
	code, header, body = s.part(t, "/sync/edit", csrf, typed)
	if contains(t, "a part of the login before", body, "do it again"); code != http.StatusForbidden || header.Get("X-CSRF-Token") == "" {
		t.Fatalf("a part of the login before: %d %v", code, header)
	}
	if code, header, body := s.part(t, "/sync/edit", header.Get("X-CSRF-Token"), typed); code != http.StatusOK || header.Get("X-CSRF-Token") != "" {
		t.Errorf("a part sent again: %d %s", code, body)
	}
}
