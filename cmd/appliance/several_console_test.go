//go:build several

package main_test

import (
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/console/consoletest"
)

// tab is a browser whose requests come to the daemons in turn.
type tab struct {
	*together
	http http.Client
}

const tabPassword = "password-of-a-tab"

// send sends a request, with a form unless that is nil, and returns the status, where it leads, and the page.
func (b *tab) send(t *testing.T, path string, form url.Values) (status int, leads, body string) {
	t.Helper()
	method, content := http.MethodGet, io.Reader(http.NoBody)
	if form != nil {
		method, content = http.MethodPost, strings.NewReader(form.Encode())
	}
	r, err := http.NewRequestWithContext(t.Context(), method, "https://localhost:8443"+path, content)
	must(t, err)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := b.http.Do(r)
	must(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	must(t, err)
	return resp.StatusCode, resp.Header.Get("Location"), string(text)
}

// logIn makes a user and logs it in.
func (f *together) logIn(t *testing.T, user string) *tab {
	t.Helper()
	_, err := f.daemons[0].admin.CreateUser(t.Context(), api.NewUser{Name: user, Role: "admin", Password: tabPassword})
	must(t, err)
	jar, err := cookiejar.New(nil)
	must(t, err)
	b := &tab{together: f, http: http.Client{Transport: f.http.Transport, Jar: jar, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	if status, leads, _ := b.send(t, "/login", url.Values{"user": {user}, "password": {tabPassword}}); status != http.StatusSeeOther || leads != "/" {
		t.Fatalf("the login of %s is answered with %d and leads to %s", user, status, leads)
	}
	return b
}

// shown asserts how each daemon answers a page.
func (b *tab) shown(t *testing.T, when string, want int) {
	t.Helper()
	for range b.daemons {
		if status, _, _ := b.send(t, "/users", nil); status != want {
			t.Errorf("%s a daemon answers the page with %d, not %d", when, status, want)
		}
	}
}

// form sends a form with what the page has that was shown by another daemon.
func (b *tab) form(t *testing.T, page, path string, form url.Values) (status int, leads, body string) {
	t.Helper()
	_, _, body = b.send(t, page, nil)
	csrf := consoletest.CSRF(body)
	if csrf == "" {
		t.Fatalf("%s has no form: %s", page, body)
	}
	form.Set("csrf", csrf)
	return b.send(t, path, form)
}

// One login of the console is good at each daemon, and ends at each.
func TestSeveral_console(t *testing.T) {
	f := newTogether(t, 2)
	t.Run("pages, forms and notices", func(t *testing.T) {
		b := f.logIn(t, "pages")
		b.shown(t, "after the login", http.StatusOK)
		for _, user := range []string{"first", "second"} { // by each daemon
			_, err := f.daemons[0].admin.CreateUser(t.Context(), api.NewUser{Name: user, Role: "pull", Password: tabPassword})
			must(t, err)
			status, leads, _ := b.form(t, "/users", "/users/"+user+"/delete", url.Values{})
			if status != http.StatusSeeOther {
				t.Fatalf("a form is answered with %d", status)
			}
			if _, _, body := b.send(t, leads, nil); !strings.Contains(body, "The user "+user+" is deleted.") {
				t.Errorf("the other daemon does not tell what was done: %s", body)
			}
			b.next.Add(1)
		}
		if status, _, _ := b.send(t, "/users", url.Values{"csrf": {"another"}, "name": {"third"}}); status != http.StatusForbidden {
			t.Errorf("a form of another site is answered with %d", status)
		}
	})
	for name, end := range map[string]func(t *testing.T, b *tab, user string){
		"a logout": func(t *testing.T, b *tab, _ string) {
			if status, leads, _ := b.form(t, "/users", "/logout", url.Values{}); status != http.StatusSeeOther || leads != "/login" {
				t.Errorf("a logout is answered with %d", status)
			}
		},
		"a logout with a cookie that is sent again": func(t *testing.T, b *tab, _ string) {
			at := &url.URL{Scheme: "https", Host: "localhost:8443"}
			was := b.http.Jar.Cookies(at)
			b.form(t, "/users", "/logout", url.Values{})
			for _, c := range was {
				c.Secure, c.Path = true, "/"
			}
			b.http.Jar.SetCookies(at, was)
			if len(b.http.Jar.Cookies(at)) == 0 {
				t.Error("there is no cookie to send")
			}
		},
		"another password": func(t *testing.T, b *tab, user string) {
			_, err := b.daemons[1].admin.ChangeUser(t.Context(), user, api.UserChange{Password: "another-password"})
			must(t, err)
		},
		"a removal": func(t *testing.T, b *tab, user string) {
			must(t, b.daemons[0].admin.DeleteUser(t.Context(), user))
		},
	} {
		t.Run(name, func(t *testing.T) {
			user := strings.ReplaceAll(name, " ", "-")
			b := f.logIn(t, user)
			b.shown(t, "after the login", http.StatusOK)
			end(t, b, user)
			b.shown(t, "after "+name, http.StatusSeeOther)
		})
	}
	t.Run("another role", func(t *testing.T) {
		b := f.logIn(t, "role")
		b.shown(t, "after the login", http.StatusOK)
		_, err := f.daemons[1].admin.ChangeUser(t.Context(), "role", api.UserChange{Role: "pull"})
		must(t, err)
		b.shown(t, "with another role", http.StatusForbidden)
	})
	t.Run("a restart of all", func(t *testing.T) {
		b := f.logIn(t, "restart")
		for range f.daemons {
			_, err := f.demand(t.Context(), http.StatusNotFound, http.MethodGet, "/v2/missed/manifests/v1", nil)
			must(t, err)
		}
		for _, d := range f.daemons {
			d.stop(t)
			d.start(t)
		}
		b.shown(t, "after a restart", http.StatusOK)
		for i, d := range f.daemons {
			missed, err := d.admin.Misses(t.Context())
			if err != nil || len(missed) != 1 || missed[0].Repository != "missed" || missed[0].Count != len(f.daemons) {
				t.Errorf("daemon %d lists as missed %+v, %v", i, missed, err)
			}
		}
	})
	for _, d := range f.daemons {
		d.stop(t)
	}
}
