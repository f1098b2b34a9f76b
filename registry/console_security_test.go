package registry_test

import (
	"bufio"
	"context"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	ggcr "github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/net/html"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/console"
	"github.com/mirror-appliance/appliance/registry/console/consoletest"
)

// parameters are what pages take in their addresses; each of them is sent to each page.
var parameters = []string{"search", "after", "tag", "image", "repository", "name", "file", "user", "event", "kind", "text", "outcome", "prefix",
	"from", "to", "channel", "q", "id", "next", "limit", "cluster", "view", "package", "operator", "arch", "version", "since", "until", "before", "catalog", "at"}

// hostileValues are what an attacker would write into anything that has a name.
var hostileValues = []string{hostile, `javascript:alert(1)`, `"><img src=x onerror=alert(1)>`, "' onmouseover='alert(1)", "//evil.test/", "{{.}}", "\x00\r\nX: y", "-1", strings.Repeat("9", 40)}

// examples are addresses of pages that take something that exists, for the walk over all pages: a new page
// without a parameter needs none.
func (r *running) examples(t *testing.T, digest string) map[string][]string {
	t.Helper()
	past, err := r.admin.PastSyncs(t.Context(), api.PastRequest{})
	must(t, err)
	reached, err := r.admin.Reached(t.Context())
	must(t, err)
	set, run := "?file="+url.QueryEscape(r.cfg.Sync[0].ImageSet), "/sync/history/"+past[0].ID
	return map[string][]string{
		"GET /repositories/{name...}": {"/repositories/team/evil", "/repositories/team/evil?image=v1", "/repositories/team/evil?image=" + digest},
		"GET /images/delete":          {"/images/delete?repository=team%2Fevil&image=v1"},
		"GET /images/signatures":      {"/images/signatures?repository=team%2Fevil&image=v1"},
		"GET /images/needs":           {"/images/needs?repository=team%2Fevil&image=v1"},
		"GET /catalogs/{name...}":     {"/catalogs/team/index:v1", "/catalogs/team/index:v1?operator=" + url.QueryEscape(hostileName)},
		"GET /users/{name}":           {"/users/pull"},
		"GET /users/{name}/delete":    {"/users/pull/delete"},
		"GET /sync/edit/read/live":    {"/sync/edit/read/live?search=script&catalog=" + url.QueryEscape(reached.Read[0].Catalog)},
		"GET /sync/set":               {"/sync/set" + set}, "GET /sync/report": {"/sync/report" + set}, "GET /sync/plan": {"/sync/plan" + set},
		"GET /updates/clusters/{id}/detach": {"/updates/clusters/c-1/detach"},
		"GET /pair/followers/{id}/remove":   {"/pair/followers/f-1/remove"},
		"GET /sync/history/{id}":            {run}, "GET /sync/history/{id}/rollback": {run + "/rollback"},
		"GET /cluster/files/{name...}": {"/cluster/files/itms-oc-mirror.yaml"},
		"GET /documentation/{file}":    {"/documentation/operate.md"},
	}
}

// elsewhere pushes an image to another registry, and returns its name.
func elsewhere(t *testing.T, img v1.Image) string {
	t.Helper()
	server := httptest.NewServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(server.Close)
	at := strings.TrimPrefix(server.URL, "http://") + "/team/index:v1"
	ref, err := name.NewTag(at, name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, img))
	return at
}

// withHostileContent starts a registry in which whatever an outsider can name has a hostile name.
func withHostileContent(t *testing.T) (*running, string) {
	t.Helper()
	dir := t.TempDir()
	r := start(t, func(c *config.Config) {
		c.Sync = []config.Sync{{ImageSet: filepath.Join(dir, "set.yaml"), Workspace: filepath.Join(dir, "work"), Interval: time.Hour}}
		c.Upstreams = []config.Upstream{{Prefix: "up", URL: "https://127.0.0.1:1"}, {Prefix: "lost", URL: "https://lost.invalid", CA: "/none/" + hostile + ".pem"}}
	})
	writeSet(t, filepath.Join(dir, "set.yaml"), newSample(t), "samples/docker:v1")
	r.mirrored(t, r.cfg.Sync[0], true)
	img := r.image(t, "team/evil:v1")
	r.catalog(t, "team/index:v1")
	_, err := r.admin.ReadCatalog(t.Context(), api.CatalogRead{Catalog: elsewhere(t, hostileCatalog(t))}, nil)
	must(t, err)
	r.browse(t).post(t, "/login", url.Values{"user": {hostile}, "password": {hostile}}) // which the audit has
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/v2/absent/image/manifests/v1", nil)
	must(t, err)
	req.SetBasicAuth("pull", password)
	req.Header.Set("User-Agent", hostile)
	resp, err := r.http.Do(req)
	must(t, err)
	resp.Body.Close()
	r.pulls(t, "/v2/up/image/manifests/v1")
	_, err = r.admin.AttachCluster(t.Context(), api.AttachRequest{Name: hostile, Facts: state.Facts{ID: "c-1", Version: hostile, Channel: hostile,
		Releases: []state.Release{{Version: hostile, Image: hostile}}, Images: []string{hostile}}})
	must(t, err)
	_, err = r.admin.RegisterFollower(t.Context(), api.NewFollower{ID: "f-1", Address: hostile, Token: "t"})
	must(t, err)
	for _, to := range []string{hostile + "@" + digestOf(t, img), "4.99.1"} { // of the last there is an image set
		must(t, r.admin.BeginReady(t.Context(), api.ReadyRequest{To: to}))
		r.judged(t, to)
	}
	return r, digestOf(t, img)
}

// Whatever is named how, and whatever a link to a page has in it: no page gets a script, a link elsewhere or
// a form to another site of it, and each has what keeps browsers from the rest.
func TestConsole_everyPageEscapes(t *testing.T) {
	r, digest := withHostileContent(t)
	s := r.logIn(t, "admin")
	known, shown := r.examples(t, digest), 0
	for _, pattern := range console.Patterns() {
		path, isGet := strings.CutPrefix(pattern, "GET ")
		if !isGet {
			continue
		}
		ok := false
		for _, at := range append(slices.Clone(known[pattern]), addresses(path)...) {
			code, body := s.looks(t, at)
			ok = ok || code == http.StatusOK
			if code >= http.StatusInternalServerError {
				t.Errorf("%s is answered with %d", at, code)
			}
			if strings.Contains(body, "&lt;script&gt;") {
				shown++
			}
		}
		if !ok {
			t.Errorf("the page %s was not seen with content: add an address of it to examples", pattern)
		}
		delete(known, pattern)
	}
	for pattern := range known {
		t.Errorf("there is no page %s", pattern)
	}
	if shown < 10 {
		t.Errorf("only %d pages show a hostile name: the content is not there", shown)
	}
}

// addresses returns a path alone, and with each hostile value in its names and parameters.
func addresses(path string) []string {
	path = strings.ReplaceAll(path, "{$}", "")
	wild := regexp.MustCompile(`\{[^}]+\}`)
	var all []string
	if !wild.MatchString(path) {
		all = append(all, path)
	}
	for _, value := range hostileValues {
		q := url.Values{}
		for _, p := range parameters {
			q.Set(p, value)
		}
		all = append(all, wild.ReplaceAllString(path, url.PathEscape(value))+"?"+q.Encode())
	}
	return all
}

// looks gets a page, or the first event of one that moves, and judges it.
func (s *surfer) looks(t *testing.T, at string) (code int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+at, nil)
	must(t, err)
	resp, err := s.http.Do(req)
	must(t, err)
	defer resp.Body.Close()
	kind, h := resp.Header.Get("Content-Type"), resp.Header
	lines := bufio.NewScanner(resp.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() && (kind != "text/event-stream" || lines.Text() != "") {
		body += strings.TrimPrefix(lines.Text(), "data: ") + "\n"
	}
	if !strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Frame-Options") != "DENY" || h.Get("X-Content-Type-Options") != "nosniff" ||
		h.Get("Cache-Control") != "no-store" || h.Get("Referrer-Policy") != "no-referrer" || h.Get("X") != "" {
		t.Errorf("%s: %v", at, h)
	}
	if strings.HasPrefix(kind, "text/html") || kind == "text/event-stream" {
		judge(t, at, body)
	} else if !strings.HasPrefix(kind, "text/plain") && !strings.HasPrefix(h.Get("Content-Disposition"), "attachment") {
		t.Errorf("%s is %s, and is opened by a browser", at, kind)
	}
	return resp.StatusCode, body
}

// judge fails for what a page of ours never has.
func judge(t *testing.T, at, body string) {
	t.Helper()
	root, err := html.Parse(strings.NewReader(body))
	must(t, err)
	for n := range root.Descendants() {
		if n.Type != html.ElementNode {
			continue
		}
		value := map[string]string{}
		for _, a := range n.Attr {
			value[a.Key] = a.Val
			if strings.HasPrefix(a.Key, "on") || strings.HasPrefix(a.Key, "hx-on") || a.Key == "style" || a.Key == "srcdoc" || a.Key == "formaction" || a.Key == "ping" {
				t.Errorf("%s: <%s %s=%q>", at, n.Data, a.Key, a.Val)
			}
			if slices.Contains([]string{"href", "src", "action", "hx-get", "hx-post", "sse-connect"}, a.Key) && !staysHere(a.Val) && !strings.HasPrefix(at, "/documentation") {
				t.Errorf("%s: <%s %s=%q> leads elsewhere", at, n.Data, a.Key, a.Val)
			}
		}
		switch n.Data {
		case "iframe", "object", "embed", "base", "style", "img":
			t.Errorf("%s has <%s>", at, n.Data)
		case "script":
			if n.FirstChild != nil || !strings.HasPrefix(value["src"], "/static/") {
				t.Errorf("%s has a script", at)
			}
		}
	}
}

// staysHere reports whether a link stays on this site.
func staysHere(link string) bool {
	u, err := url.Parse(link)
	return err == nil && u.Scheme == "" && u.Host == "" && !strings.HasPrefix(link, "//") && !strings.Contains(link, "\\")
}

// No page that changes something does so without the value of the session, or for who is not logged in, or
// for a role that may not.
func TestConsole_everyFormIsProtected(t *testing.T) {
	r, _ := withHostileContent(t)
	s, other, reader := r.logIn(t, "admin"), r.logIn(t, "admin"), r.logIn(t, "pull")
	_, _, shown := other.get(t, "/users")
	foreign := consoletest.CSRF(shown)
	_, _, shown = reader.get(t, "/documentation")
	own := consoletest.CSRF(shown)
	before, err := r.admin.Users(t.Context())
	must(t, err)
	forms := 0
	for _, pattern := range console.Patterns() {
		path, isPost := strings.CutPrefix(pattern, "POST ")
		if !isPost {
			continue
		}
		forms++
		path = regexp.MustCompile(`\{[^}]+\}`).ReplaceAllString(path, "pull")
		for _, sent := range []url.Values{{}, {"csrf": {""}}, {"csrf": {foreign}}, {"csrf": {own}}} {
			sent.Set("offline", "true")
			if code, _, _ := s.post(t, path, sent); code != http.StatusForbidden {
				t.Errorf("%s with the value %q of another session: %d", pattern, sent.Get("csrf"), code)
			}
		}
		if _, at, _ := r.browse(t).post(t, path, url.Values{"csrf": {foreign}}); !strings.HasPrefix(at, "/login") {
			t.Errorf("%s without a login leads to %s", pattern, at)
		}
		if code, _, _ := reader.post(t, path, url.Values{"csrf": {own}}); code != http.StatusForbidden && pattern != "POST /logout" && code != http.StatusNotFound {
			t.Errorf("%s for the role pull: %d", pattern, code)
		}
		if pattern == "POST /logout" {
			reader = r.logIn(t, "pull")
			_, _, shown = reader.get(t, "/documentation")
			own = consoletest.CSRF(shown)
		}
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://"+host+path, strings.NewReader(url.Values{"csrf": {foreign}}.Encode()))
		must(t, err)
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		req.Header.Set("Sec-Fetch-Site", "cross-site")
		if code, _, _ := other.do(t, req); code != http.StatusForbidden {
			t.Errorf("%s from a page of another site: %d", pattern, code)
		}
	}
	after, err := r.admin.Users(t.Context())
	must(t, err)
	if link, err := r.admin.Offline(t.Context()); err != nil || link.Offline || len(after) != len(before) || forms < 5 {
		t.Errorf("of %d forms one has changed something: %+v %v %+v", forms, link, err, after)
	}
}

func TestConsole_cookie(t *testing.T) {
	r := start(t)
	s := r.browse(t)
	s.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	resp, err := s.http.PostForm("https://"+host+"/login", url.Values{"user": {"admin"}, "password": {password}})
	must(t, err)
	resp.Body.Close()
	all := resp.Cookies()
	if len(all) != 1 {
		t.Fatalf("cookies: %v", all)
	}
	if c := all[0]; !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != "/" || c.Domain != "" || !strings.HasPrefix(c.Name, "__Host-") || len(c.Value) < 32 {
		t.Errorf("the cookie is %s", c)
	}
}

// Paths that are written otherwise lead to no page that they are not, and to no file.
func TestConsole_pathTricks(t *testing.T) {
	r := start(t)
	reader, s := r.logIn(t, "pull"), r.logIn(t, "admin")
	for _, at := range []string{"/users/%2e%2e/users", "/documentation/..%2fusers", "/documentation/%2e%2e%2fusers", "//users", "/documentation//../users", "/users;x=y", "/users%00",
		"/users%2f", "/USERS", "/./users", "/documentation/%252e%252e%252fusers", "/users/admin%00/delete", "/static/%2e%2e/%2e%2e/etc/passwd", "/static/..%2f..%2fconsole.go",
		"/documentation/..%2f..%2f..%2fetc%2fpasswd", "/documentation/%00.md", "/documentation/" + strings.Repeat("a", 4000), "/users/" + strings.Repeat("%F0%9F%92%A9", 1000),
		"/repositories/" + strings.Repeat("a/", 2000)} {
		if code, to, body := reader.get(t, at); code < 300 && !strings.HasPrefix(to, "/documentation") && !strings.HasPrefix(to, "/repositories") || strings.Contains(body, ">admin<") || strings.Contains(body, "root:") {
			t.Errorf("the role pull gets %.80s, which leads to %.80s: %d", at, to, code)
		}
		code, _, body := s.get(t, at)
		if code >= 500 || strings.Contains(body, "root:") || strings.Contains(body, "package console") {
			t.Errorf("%.80s: %d", at, code)
		}
	}
}

func TestConsole_tooMuch(t *testing.T) {
	r := start(t)
	s := r.logIn(t, "admin")
	for _, path := range []string{"/", "/users", "/repositories", "/audit"} {
		if code, _, _ := s.get(t, path+"?search="+strings.Repeat("x", 8<<10)+"&after="+strings.Repeat("y", 4<<10)); code >= 500 {
			t.Errorf("%s with long parameters: %d", path, code)
		}
	}
	_, _, shown := s.get(t, "/users")
	csrf := consoletest.CSRF(shown)
	long := url.Values{"csrf": {csrf}, "name": {"new"}, "password": {"long-enough"}, "role": {"admin"}, "repositories": {strings.Repeat("a/*\n", 3<<20)}}
	for _, path := range []string{"/users", "/login", "/upstreams/link"} {
		if code, _, _ := s.post(t, path, long); code < 400 || code >= 500 {
			t.Errorf("a form of %d bytes to %s: %d", len(long.Encode()), path, code)
		}
	}
	if users, err := r.admin.Users(t.Context()); err != nil || slices.ContainsFunc(users, func(u api.User) bool { return u.Name == "new" }) {
		t.Errorf("a user is created by it: %v", err)
	}
	for _, method := range []string{http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace, "PROPFIND", "get"} {
		for _, path := range []string{"/", "/users", "/users/pull", "/login", "/users/pull/delete"} {
			req, err := http.NewRequestWithContext(t.Context(), method, "https://"+host+path, nil)
			must(t, err)
			if code, _, body := s.do(t, req); code < 400 || code >= 500 || strings.Contains(body, "<form") && strings.Contains(body, "new-user") {
				t.Errorf("%s %s: %d", method, path, code)
			}
		}
	}
	if code, _, _ := s.get(t, "/users"); code != http.StatusOK {
		t.Errorf("after all that: %d", code)
	}
}

// A user that logs in without end loses its oldest sessions, and takes none from another.
func TestConsole_manySessions(t *testing.T) {
	r := start(t)
	first, another := r.logIn(t, "pull"), r.logIn(t, "admin")
	var last *surfer
	for range 500 {
		last = r.browse(t)
		last.http.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		if code, _, _ := last.post(t, "/login", url.Values{"user": {"pull"}, "password": {password}}); code != http.StatusSeeOther {
			t.Fatalf("a login: %d", code)
		}
	}
	if _, at, _ := first.get(t, "/documentation"); !strings.HasPrefix(at, "/login") {
		t.Errorf("the first session leads to %s", at)
	}
	if code, _, _ := last.get(t, "/documentation"); code != http.StatusOK {
		t.Errorf("the last session: %d", code)
	}
	if code, at, _ := another.get(t, "/users"); code != http.StatusOK || at != "/users" {
		t.Errorf("the session of another user: %d %s", code, at)
	}
}

// Who guesses at the one door waits at the other.
func TestConsole_backoffIsOne(t *testing.T) {
	for _, byPage := range []bool{true, false} {
		r := start(t)
		s := r.browse(t)
		guess := func(page bool) int {
			if page {
				code, _, _ := s.post(t, "/login", url.Values{"user": {"admin"}, "password": {"guessed-wrong"}})
				return code
			}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+host+"/api/v1/status", nil)
			must(t, err)
			req.SetBasicAuth("admin", "guessed-wrong")
			code, _, _ := s.do(t, req)
			return code
		}
		for n := 0; guess(byPage) == http.StatusUnauthorized; n++ {
			if n > 200 {
				t.Fatal("guesses are never held up")
			}
		}
		if code := guess(!byPage); code != http.StatusTooManyRequests {
			t.Errorf("after guesses (at the page: %v) the other door answers %d", byPage, code)
		}
	}
}
