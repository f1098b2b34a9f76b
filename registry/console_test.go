package registry_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/publicsuffix"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/console/consoletest"
)

// surfer is a browser without scripts.
type surfer struct{ http *http.Client }

func (r *running) browse(t *testing.T) *surfer {
	t.Helper()
	jar, err := cookiejar.New(&cookiejar.Options{PublicSuffixList: publicsuffix.List})
	must(t, err)
	c := r.client(&tls.Config{RootCAs: r.roots, ServerName: r.cfg.Hostname})
	c.Jar = jar
	return &surfer{c}
}

// logIn returns a surfer that has logged in.
func (r *running) logIn(t *testing.T, user string) *surfer {
	t.Helper()
	s := r.browse(t)
	code, at, body := s.post(t, "/login", url.Values{"user": {user}, "password": {password}})
	if code != http.StatusOK || at == "/login" {
		t.Fatalf("the login of %s leads to %s: %d %s", user, at, code, body)
	}
	return s
}

func (s *surfer) do(t *testing.T, req *http.Request) (code int, at, body string) {
	t.Helper()
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Request.URL.RequestURI(), string(data)
}

func (s *surfer) get(t *testing.T, path string) (code int, at, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+path, nil)
	must(t, err)
	return s.do(t, req)
}

func (s *surfer) post(t *testing.T, path string, form url.Values) (code int, at, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+path, strings.NewReader(form.Encode()))
	must(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	return s.do(t, req)
}

// send posts a form of a page, with what the page has put into it.
func (s *surfer) send(t *testing.T, page, path string, form url.Values) (code int, at, body string) {
	t.Helper()
	_, _, shown := s.get(t, page)
	csrf := consoletest.CSRF(shown)
	if csrf == "" {
		t.Fatalf("%s has no form: %s", page, shown)
	}
	form.Set("csrf", csrf)
	return s.post(t, path, form)
}

func TestConsole_login(t *testing.T) {
	r := start(t)
	s := r.browse(t)
	if code, at, _ := s.get(t, "/users?x=%22y"); code != 200 || at != "/login?next=%2Fusers%3Fx%3D%2522y" {
		t.Errorf("without a login: %d %s", code, at)
	}
	if code, _, body := s.post(t, "/login", url.Values{"user": {`"><script>`}, "password": {"wrong-password"}}); code != 401 ||
		!strings.Contains(body, "is wrong") || strings.Contains(body, "<script>") || strings.Contains(body, "wrong-password") {
		t.Errorf("a wrong login: %d %s", code, body)
	}
	if code, at, body := s.post(t, "/login", url.Values{"user": {"admin"}, "password": {password}, "next": {"/users"}}); code != 200 || at != "/users" || !strings.Contains(body, ">pull<") {
		t.Errorf("a login: %d %s", code, at)
	}
	if code, at, _ := s.post(t, "/login", url.Values{"user": {"admin"}, "password": {password}, "next": {"//evil.test/"}}); code != 200 || at != "/" {
		t.Errorf("a login that is to lead elsewhere: %d %s", code, at)
	}
	for _, log := range []string{r.log.String(), r.access.String()} {
		if strings.Contains(log, password) || strings.Contains(log, "wrong-password") {
			t.Error("a password is in the log")
		}
	}
}

// A login makes a new session, and ends the one that the browser had, which another may know.
func TestConsole_sessionFixation(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "pull")
	site := &url.URL{Scheme: "https", Host: host, Path: "/"}
	before := s.http.Jar.Cookies(site)
	s.post(t, "/login", url.Values{"user": {"admin"}, "password": {password}})
	after := s.http.Jar.Cookies(site)
	if len(before) != 1 || len(after) != 1 || before[0].Value == after[0].Value {
		t.Fatalf("before %v, after %v", before, after)
	}
	s.http.Jar.SetCookies(site, before)
	if _, at, _ := s.get(t, "/documentation"); !strings.HasPrefix(at, "/login") {
		t.Errorf("the old session leads to %s", at)
	}
	given := r.browse(t)
	given.http.Jar.SetCookies(site, []*http.Cookie{{Name: before[0].Name, Value: "chosen-by-another", Secure: true, Path: "/"}})
	given.post(t, "/login", url.Values{"user": {"admin"}, "password": {password}})
	if c := given.http.Jar.Cookies(site); len(c) != 1 || c[0].Value == "chosen-by-another" {
		t.Errorf("the session is %v", c)
	}
}

func TestConsole_logout(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	site := &url.URL{Scheme: "https", Host: host, Path: "/"}
	cookie := s.http.Jar.Cookies(site)
	if code, at, _ := s.send(t, "/", "/logout", url.Values{}); code != 200 || at != "/login" {
		t.Fatalf("logout: %d %s", code, at)
	}
	s.http.Jar.SetCookies(site, cookie)
	if _, at, _ := s.get(t, "/users"); !strings.HasPrefix(at, "/login") {
		t.Errorf("the session goes on after a logout: %s", at)
	}
}

// Roles hold on each page and action, whatever the navigation shows.
func TestConsole_roles(t *testing.T) {
	r := start(t)
	for _, user := range []string{"pull", "push"} {
		s := r.logIn(t, user)
		for _, path := range []string{"/users", "/users/admin", "/users/admin/delete", "/overview/live"} {
			if code, _, body := s.get(t, path); code != http.StatusForbidden || strings.Contains(body, ">admin<") {
				t.Errorf("%s gets %s: %d", user, path, code)
			}
		}
		if code, _, _ := s.send(t, "/documentation", "/users/admin/delete", url.Values{}); code != http.StatusForbidden {
			t.Errorf("%s deletes a user: %d", user, code)
		}
		if _, _, body := s.get(t, "/documentation"); strings.Contains(body, `href="/users"`) {
			t.Errorf("the navigation of %s has what it may not see", user)
		}
	}
}

func TestConsole_forms(t *testing.T) {
	r := start(t)
	s, other := r.logIn(t, "admin"), r.logIn(t, "admin")
	u := url.Values{"name": {"node+1"}, "password": {"long-enough-too"}, "role": {"pull"}, "repositories": {"openshift/*\r\n\r\n team/app "}}
	if code, _, body := s.post(t, "/users", u); code != http.StatusForbidden || !strings.Contains(body, "another session") {
		t.Errorf("without the session's value: %d", code)
	}
	_, _, shown := other.get(t, "/users")
	u.Set("csrf", consoletest.CSRF(shown))
	if code, _, _ := s.post(t, "/users", u); code != http.StatusForbidden {
		t.Errorf("with another session's value: %d", code)
	}
	if code, at, body := s.send(t, "/users", "/users", u); code != 200 || at != "/users" || !strings.Contains(body, "The user node&#43;1 is created.") ||
		!strings.Contains(body, base64.StdEncoding.EncodeToString([]byte("node+1:long-enough-too"))) || strings.Contains(body, "long-enough-too") {
		t.Errorf("a new user: %d %s", code, at)
	}
	if _, _, body := s.get(t, "/users"); strings.Contains(body, "is created.") || !strings.Contains(body, "<code>team/app</code>") {
		t.Errorf("the users are %s", body)
	}
	_, _, body := s.send(t, "/users/node+1", "/users/node+1", url.Values{"role": {"push"}, "generate": {"yes"}})
	made := regexp.MustCompile(`id="made">([A-Z2-7]{26})<`).FindStringSubmatch(body)
	if made == nil {
		t.Fatalf("a generated password: %s", body)
	}
	if code, at, _ := r.browse(t).post(t, "/login", url.Values{"user": {"node+1"}, "password": {made[1]}}); code != 200 || at == "/login" {
		t.Errorf("a login with the generated password leads to %s: %d", at, code)
	}
	if _, _, body := s.get(t, "/users"); strings.Contains(body, made[1]) || strings.Contains(r.log.String()+r.access.String(), made[1]) {
		t.Error("the generated password is shown again, or is in the log")
	}
	if code, _, body := s.send(t, "/users", "/users", u); code != http.StatusConflict || !strings.Contains(body, `value="node&#43;1"`) || strings.Contains(body, "long-enough-too") {
		t.Errorf("the same again: %d %s", code, body)
	}
	if code, at, body := s.send(t, "/users/node+1", "/users/node+1", url.Values{"role": {"push"}}); code != 200 || at != "/users" {
		t.Errorf("a change: %d %s %s", code, at, body)
	}
	if log := r.log.String(); !strings.Contains(log, "event=\"user changed\" user=admin remote=127.0.0.1:") {
		t.Errorf("the audit does not name the user and the address:\n%s", log)
	}
	users, err := r.admin.Users(t.Context())
	must(t, err)
	for _, u := range users {
		if u.Name == "node+1" && (u.Role != "push" || !slices.Equal(u.Repositories, []string{"*"})) {
			t.Errorf("the user is %+v", u)
		}
	}
	if code, at, body := s.send(t, "/users/node+1/delete", "/users/node+1/delete", url.Values{}); code != 200 || at != "/users" || !strings.Contains(body, "is deleted") {
		t.Errorf("a delete: %d %s", code, at)
	}
	if code, _, body := s.get(t, "/users/node+1"); code != http.StatusNotFound || !strings.Contains(body, "There is no user node&#43;1.") {
		t.Errorf("a user that is gone: %d", code)
	}
}

func TestConsole_headers(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	for _, path := range []string{"/", "/login", "/users", "/none", "/documentation/install.md"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+path, nil)
		must(t, err)
		resp, err := s.http.Do(req)
		must(t, err)
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		policy := resp.Header.Get("Content-Security-Policy")
		for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, want) {
				t.Errorf("%s: the policy is %q", path, policy)
			}
		}
		if strings.Contains(policy, "unsafe") || resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: %v", path, resp.Header)
		}
		if found := regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=|(src|href)="(https?:)?//`).FindString(string(body)); found != "" && path != "/documentation/install.md" {
			t.Errorf("%s has %s", path, found)
		}
	}
}

// What moves ends when its user may not see it any more.
func TestConsole_live_endsWithTheRole(t *testing.T) {
	r := start(t)
	_, err := r.admin.CreateUser(t.Context(), api.NewUser{Name: "second", Role: "admin", Password: password})
	must(t, err)
	s := r.logIn(t, "second")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/audit/live", nil)
	must(t, err)
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	_, err = r.admin.ChangeUser(t.Context(), "second", api.UserChange{Role: "pull"})
	must(t, err)
	if _, err := io.ReadAll(resp.Body); err != nil {
		t.Errorf("a user of role pull goes on to read the audit: %v", err)
	}
	if code, _, _ := s.get(t, "/audit/live"); code != http.StatusForbidden {
		t.Errorf("the browser that comes back is answered with %d", code)
	}
}

// What moves ends with the session and with the registry.
func TestConsole_live(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/overview/live", nil)
	must(t, err)
	req.Header.Set("Accept", "text/event-stream")
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 1<<20)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "data: ") || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("%v %q", resp.Header, lines.Text())
	}
	must(t, r.admin.DeleteUser(t.Context(), "push")) // the overview shows nothing of it
	_, _, _ = s.send(t, "/", "/logout", url.Values{})
	for lines.Scan() { // until it ends
	}
	if err := lines.Err(); err != nil {
		t.Errorf("it ends with %v", err)
	}
	req, err = http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+"/overview/live", nil)
	must(t, err)
	req.Header.Set("Accept", "text/event-stream")
	if code, _, _ := s.do(t, req); code != http.StatusNoContent {
		t.Errorf("without a session: %d", code)
	}
}
