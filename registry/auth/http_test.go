package auth

import (
	"bytes"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"unsafe"
)

func TestRequire(t *testing.T) {
	u := new(users)
	u.set(t, "init", "admin", "correct-horse")
	u.set(t, "puller", "pull", "correct-horse")
	a := New(u)
	var log bytes.Buffer
	a.Log = slog.New(slog.NewTextHandler(&log, nil))
	action := func(r *http.Request) Action {
		if r.Method == http.MethodGet {
			return Read
		}
		return Write
	}
	next := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, _ := IdentityFrom(r.Context())
		w.Write([]byte(id.Name + " is " + string(id.Role)))
	})
	h := a.Require(action, next, func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })

	for _, c := range []struct {
		name, method, user, password string
		status                       int
		body, logged                 string
	}{
		{"no login", "GET", "", "", 401, "", ""},
		{"a wrong password", "GET", "init", "hunter2-hunter2", 401, "", "user=init"},
		{"a malformed user name", "GET", "\x00", "hunter2-hunter2", 401, "", "not a user name"},
		{"reader reads", "GET", "puller", "correct-horse", 200, "puller is pull", ""},
		{"reader writes", "PUT", "puller", "correct-horse", 403, "", "user=puller"},
		{"admin writes", "PUT", "init", "correct-horse", 200, "init is admin", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			log.Reset()
			r := httptest.NewRequest(c.method, "/v2/", nil)
			if c.user != "" {
				r.SetBasicAuth(c.user, c.password)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.status || w.Body.String() != c.body {
				t.Errorf("got %d %q, want %d %q", w.Code, w.Body, c.status, c.body)
			}
			if challenged := w.Header().Get("WWW-Authenticate") != ""; challenged != (c.status == 401) {
				t.Errorf("challenge: %v", w.Header())
			}
			if (log.Len() > 0) != (c.logged != "") || !strings.Contains(log.String(), c.logged) {
				t.Errorf("log %q, want %q in it", &log, c.logged)
			}
			if c.logged != "" && !strings.Contains(log.String(), r.RemoteAddr) {
				t.Errorf("log %q lacks the remote address", &log)
			}
			if strings.Contains(log.String(), "hunter2") {
				t.Errorf("the password is in the log: %q", &log)
			}
		})
	}
}

func TestRequire_storeFails(t *testing.T) {
	a := New(&users{fail: errors.New("database is gone")})
	h := a.Require(func(*http.Request) Action { return Read },
		http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("let through") }),
		func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })
	r := httptest.NewRequest("GET", "/v2/", nil)
	r.SetBasicAuth("init", "correct-horse")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("got %d, want 503: a client told 401 would ask its user for another password", w.Code)
	}
}

func TestIdentityFrom_absent(t *testing.T) {
	if id, ok := IdentityFrom(t.Context()); ok {
		t.Errorf("got %v", id)
	}
}

// Anonymous requests may read open repositories; a wrong login is refused even there.
func TestRequire_anonymous(t *testing.T) {
	d := newDoor(t)
	action := Read
	h := d.auth.Require(func(*http.Request) Action { return action },
		http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			id, ok := IdentityFrom(r.Context())
			if !ok || !id.Anonymous() || id.Role != Pull || !id.MayRepository("open/a") || id.MayRepository("shut") {
				t.Errorf("the anonymous identity is %+v", id)
			}
		}),
		func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })
	for _, c := range []struct {
		name   string
		open   []string
		action Action
		header string
		want   int
	}{
		{"off", nil, Read, "", 401},
		{"off, as containers/image asks", nil, Read, "Basic Og==", 401},
		{"read", []string{"open/*"}, Read, "", 200},
		{"read, as containers/image asks", []string{"open/*"}, Read, "Basic Og==", 200},
		{"write", []string{"open/*"}, Write, "", 401},
		{"administer", []string{"*"}, Administer, "", 401},
		{"login", []string{"*"}, Login, "", 401},
		{"login, as containers/image asks", []string{"*"}, Login, "Basic Og==", 401},
		{"wrong password", []string{"*"}, Read, "Basic aW5pdDp3cm9uZw==", 401},
		{"a name and no password", []string{"*"}, Read, "Basic aW5pdDo=", 401},
	} {
		t.Run(c.name, func(t *testing.T) {
			d.auth.Anonymous, action = c.open, c.action
			r := httptest.NewRequest("GET", "/v2/", nil)
			if c.header != "" {
				r.Header.Set("Authorization", c.header)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != c.want || (w.Header().Get("WWW-Authenticate") != "") != (c.want == 401) {
				t.Errorf("got %d %v", w.Code, w.Header())
			}
		})
	}
}

// Neither passwords nor names as long as a header stay in memory after a login.
func TestLogin_remembers(t *testing.T) {
	d := newDoor(t)
	header := "init:correct-horse"
	name, password, _ := strings.Cut(header, ":")
	r := httptest.NewRequest("GET", "/v2/", nil)
	id, refused := d.auth.login(r, name, password)
	if refused.status != 0 || id.Name != "init" {
		t.Fatalf("%+v, %+v", id, refused)
	}
	if unsafe.StringData(id.Name) == unsafe.StringData(header) {
		t.Error("the name shares memory with the password")
	}
	for _, name := range []string{strings.Repeat("x", 40000), "\xff", "in\x00it", "puller"} {
		d.want(http.StatusUnauthorized, "192.0.2.7:1", name, "wrong-horse")
	}
	names := map[string]bool{}
	for key, f := range d.auth.backoff.failures {
		names[f.name] = true
		if k, ok := key.(nameKey); ok {
			names[k.name] = true
		}
	}
	if want := map[string]bool{"": true, "puller": true}; !maps.Equal(names, want) {
		t.Errorf("%d names are kept, want %v", len(names), want)
	}
}
