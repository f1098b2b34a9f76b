package console

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// lostLogins are those of a database that does not answer, while fails.
type lostLogins struct {
	auth.Logins
	fails bool
}

func (l *lostLogins) Get(context.Context, auth.LoginToken) (auth.LoginRecord, bool, error) {
	if l.fails {
		return auth.LoginRecord{}, false, errors.New("the database postgres://appliance@db.example.com/x is not available")
	}
	return auth.LoginRecord{}, false, nil
}

// While logins cannot be checked, a browser gets a page that asks again, has the time since when, and names no server.
func TestConsole_down(t *testing.T) {
	logins := &lostLogins{fails: true}
	c, err := New(Options{Sessions: auth.New(nil).NewSessions(logins), API: http.NotFoundHandler(),
		Address: "registry.test:8443", Drain: t.Context(), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	ask := func(method, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest(method, path, nil)
		r.Header.Set("Cookie", "__Host-appliance=token")
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		c.ServeHTTP(w, r)
		return w
	}
	since := ""
	for _, path := range []string{"/", "/repositories", "/login"} {
		w := ask(http.MethodGet, path)
		page := w.Body.String()
		if w.Code != http.StatusServiceUnavailable || w.Header().Get("Retry-After") != "5" || w.Header().Get("Refresh") != "5" ||
			!strings.Contains(page, `<h1 class="pf-v6-c-title pf-m-3xl">The database does not answer</h1>`) || !strings.Contains(page, "appliance status") || strings.Contains(page, "db.example.com") {
			t.Errorf("%s is answered %d %v\n%s", path, w.Code, w.Header(), page)
		}
		_, after, _ := strings.Cut(page, `<time datetime="`)
		at, _, _ := strings.Cut(after, `"`)
		if _, err := time.Parse(time.RFC3339, at); err != nil || since != "" && at != since {
			t.Errorf("%s tells since %q, before it was %q: %v", path, at, since, err)
		}
		since = at
	}
	if w := ask(http.MethodPost, "/logout"); w.Code != http.StatusServiceUnavailable || w.Header().Get("Refresh") != "" {
		t.Errorf("a form is answered %d %v", w.Code, w.Header())
	}
	if w := ask(http.MethodGet, "/", "HX-Request", "true"); w.Code != http.StatusServiceUnavailable || strings.Contains(w.Body.String(), "<h1") {
		t.Errorf("a part of a page is answered %d\n%s", w.Code, w.Body)
	}
	logins.fails = false
	if w := ask(http.MethodGet, "/"); w.Code != http.StatusSeeOther || c.down.Load() != nil {
		t.Errorf("afterwards it is answered %d, down since %v", w.Code, c.down.Load())
	}
}
