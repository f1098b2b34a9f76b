package auth

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
)

// browser has the sessions of users init (admin) and puller (pull), and a clock to turn.
type browser struct {
	*Sessions
	users *users
	clock time.Time
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	b := &browser{users: new(users), clock: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)}
	b.users.set(t, "init", "admin", "correct-horse")
	b.users.set(t, "puller", "pull", "correct-horse")
	b.Sessions = New(b.users).NewSessions(NewMemory())
	b.now = func() time.Time { return b.clock }
	return b
}

// logIn returns a request with the cookie of a new session.
func (b *browser) logIn(t *testing.T, name string) *http.Request {
	t.Helper()
	cookie, status, _ := b.Begin(httptest.NewRequest("POST", "/login", nil), name, "correct-horse")
	if status != 0 {
		t.Fatalf("the login of %s is answered with %d", name, status)
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.AddCookie(cookie)
	return r
}

// is asserts whether a request has a session that lasts.
func (b *browser) is(t *testing.T, r *http.Request, want bool) {
	t.Helper()
	if _, ok, err := b.Peek(r); ok != want || err != nil {
		t.Errorf("there is a session: %v (%v), want %v", ok, err, want)
	}
}

func TestSessions_Begin(t *testing.T) {
	b := newBrowser(t)
	r := httptest.NewRequest("POST", "/login", nil)
	cookie, status, _ := b.Begin(r, "puller", "correct-horse")
	if status != 0 || !cookie.Secure || !cookie.HttpOnly || cookie.SameSite != http.SameSiteStrictMode || cookie.Path != "/" || cookie.Domain != "" {
		t.Errorf("status %d, cookie %v", status, cookie)
	}
	if _, status, _ := b.Begin(r, "puller", "wrong-horse"); status != http.StatusUnauthorized {
		t.Errorf("a wrong password is answered with %d", status)
	}
	for range 100 {
		if _, status, wait := b.Begin(r, "puller", fmt.Sprint("wrong-horse", time.Now().UnixNano())); status == http.StatusTooManyRequests && wait > 0 {
			return
		}
	}
	t.Error("a hundred wrong passwords, and none is made to wait")
}

func TestSessions_Of(t *testing.T) {
	b := newBrowser(t)
	first, second := b.logIn(t, "puller"), b.logIn(t, "puller")
	s, ok, err := b.Of(first)
	if !ok || err != nil || s.Identity.Name != "puller" || !s.May(Read) || s.May(Administer) {
		t.Fatalf("%+v %v %v", s, ok, err)
	}
	other, _, _ := b.Of(second)
	if !s.Sent(s.CSRF) || s.Sent(other.CSRF) || s.Sent("") {
		t.Error("the value of a form is not the session's alone")
	}
	if id, ok := IdentityFrom(s.With(t.Context())); !ok || id.Name != "puller" {
		t.Errorf("the context has %+v", id)
	}

	b.users.set(t, "puller", "admin", "correct-horse") // with another hash of the same password
	b.auth.Forget("puller")
	b.is(t, first, false)

	role := b.logIn(t, "puller")
	b.users.mu.Lock()
	record := b.users.records["puller"]
	record.Role = "push"
	b.users.records["puller"] = record
	b.users.mu.Unlock()
	b.auth.Forget("puller")
	if s, ok, _ := b.Of(role); !ok || s.May(Administer) || !s.May(Write) {
		t.Errorf("a role that was changed: %+v, %v", s.Identity, ok)
	}

	b.users.mu.Lock()
	b.users.fail = errors.New("the disk is gone")
	b.users.mu.Unlock()
	b.auth.Forget("puller")
	if _, ok, err := b.Of(role); ok || err == nil {
		t.Errorf("with a store that fails: %v, %v", ok, err)
	}
}

func TestSessions_end(t *testing.T) {
	b := newBrowser(t)
	idle, used := b.logIn(t, "init"), b.logIn(t, "init")
	for range 5 {
		b.clock = b.clock.Add(sessionIdle / 2)
		b.is(t, idle, b.clock.Sub(time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)) <= sessionIdle) // Peek does not use it
		if _, ok, _ := b.Of(used); !ok {
			t.Fatal("a session that is used ends")
		}
	}
	b.clock = b.clock.Add(sessionMost)
	b.is(t, used, false)

	r := b.logIn(t, "init")
	s, _, _ := b.Of(r)
	b.SetNotice(t.Context(), s, "done")
	if s, _, _ = b.Of(r); s.Notice != "done" {
		t.Errorf("the notice is %q", s.Notice)
	}
	if cookie, err := b.End(t.Context(), s); err != nil || cookie.MaxAge >= 0 || cookie.Value != "" {
		t.Errorf("the cookie of an end is %v (%v)", cookie, err)
	}
	b.is(t, r, false)
	b.is(t, httptest.NewRequest("GET", "/", nil), false)
}

func TestSessions_limits(t *testing.T) {
	b := newBrowser(t)
	var own []*http.Request
	other := b.logIn(t, "init")
	for range sessionsMostUser + 3 {
		own = append(own, b.logIn(t, "puller"))
		b.clock = b.clock.Add(time.Second)
	}
	for i, r := range own {
		b.is(t, r, i >= 3)
	}
	b.is(t, other, true)
	for i := range sessionsMost {
		name := fmt.Sprint("u", i/8)
		if i%8 == 0 {
			b.users.set(t, name, "pull", "correct-horse")
		}
		b.logIn(t, name)
		b.clock = b.clock.Add(time.Millisecond)
	}
	if len(b.kept.(*memory).byToken) != sessionsMost {
		t.Errorf("there are %d sessions", len(b.kept.(*memory).byToken))
	}
	b.is(t, other, false)
}

func TestPermit(t *testing.T) {
	b := newBrowser(t)
	h := Permit(func(*http.Request) Action { return Administer }, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}),
		func(w http.ResponseWriter, _ *http.Request, status int) { w.WriteHeader(status) })
	for name, want := range map[string]int{"": 401, "puller": 403, "init": 200} {
		r := httptest.NewRequest("GET", "/", nil)
		if name != "" {
			s, _, _ := b.Of(b.logIn(t, name))
			r = r.WithContext(s.With(r.Context()))
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("%q is answered with %d", name, w.Code)
		}
	}
}

// failing are logins that cannot be kept or read.
type failing struct{ Logins }

var errGone = errors.New("the database is away")

func (failing) Add(context.Context, LoginRecord, LoginLimits) error { return errGone }
func (failing) Use(context.Context, LoginRecord, time.Time) error   { return errGone }
func (failing) SetNotice(context.Context, LoginToken, string) error { return errGone }
func (failing) End(context.Context, LoginToken) error               { return errGone }

func TestSessions_failures(t *testing.T) {
	b := newBrowser(t)
	r := b.logIn(t, "init")
	b.kept = failing{b.kept}
	s, ok, err := b.Of(r) // whose use is not recorded
	if !ok || err != nil {
		t.Fatalf("a use that cannot be recorded: %v, %v", ok, err)
	}
	b.SetNotice(t.Context(), s, "done")
	if cookie, err := b.End(t.Context(), s); cookie != nil || !errors.Is(err, errGone) {
		t.Errorf("an end that cannot be written: %v, %v", cookie, err)
	}
	b.is(t, r, true)
	if cookie, status, _ := b.Begin(httptest.NewRequest("POST", "/login", nil), "init", "correct-horse"); cookie != nil || status != http.StatusServiceUnavailable {
		t.Errorf("a login that cannot be kept: %v, %d", cookie, status)
	}
}
