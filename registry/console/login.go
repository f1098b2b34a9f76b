package console

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
)

const logoutPath = "/logout"

// loginPage is what the login page shows.
type loginPage struct {
	Title, Address, Next, User, Problem string
	Ended                               bool // what was sent was not done, as there was no login
}

// toLogin sends a browser to the login page, which leads back to where it was. A form that htmx sends stays
// on its page, with what was typed: the login is in another tab. Other forms are not kept for after the login,
// since another site could have sent them.
func (c *Console) toLogin(w http.ResponseWriter, r *http.Request) {
	part := r.Header.Get("HX-Request") == "true"
	if part && r.Method != http.MethodGet {
		w.Header().Set("HX-Retarget", "#problem")
		w.Header().Set("HX-Reswap", "innerHTML")
		c.write(w, http.StatusUnauthorized, "error", "problem", problem{c.views.text("login.ended"), c.views.text("login.ended.part")})
		return
	}
	q, back := url.Values{}, r.URL.RequestURI()
	if part {
		if at, err := url.Parse(r.Header.Get("HX-Current-URL")); err == nil {
			back = at.RequestURI()
		}
	}
	if r.Method != http.MethodGet && r.URL.Path != logoutPath {
		q.Set("ended", "true")
	}
	if r.Method != http.MethodGet {
		back = placeOf(r.URL.Path)
	}
	if back != "/" {
		q.Set("next", back)
	}
	next := "/login"
	if len(q) > 0 {
		next += "?" + q.Encode()
	}
	switch {
	case part:
		w.Header().Set("HX-Redirect", next)
		w.WriteHeader(http.StatusNoContent)
	case r.Header.Get("Accept") == "text/event-stream":
		w.WriteHeader(http.StatusNoContent) // which ends the browser's tries (HTML Standard, 9.2)
	default:
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

// placeOf returns the place of the navigation that a path is below, or "/".
func placeOf(path string) string {
	for _, p := range places() {
		if p.Path != "/" && (path == p.Path || strings.HasPrefix(path, p.Path+"/")) {
			return p.Path
		}
	}
	return "/"
}

// ownPath returns a path of this console, or "/" for what leads elsewhere.
func ownPath(next string) string {
	at, err := url.Parse(next)
	if err != nil || at.IsAbs() || at.Host != "" || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") ||
		strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

func (c *Console) showLogin(w http.ResponseWriter, r *http.Request) {
	next := ownPath(r.URL.Query().Get("next"))
	switch _, ok, err := c.Sessions.Peek(r); {
	case err != nil:
		c.unchecked(w, r)
		return
	case ok:
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	c.writeLogin(w, http.StatusOK, loginPage{Address: c.Address, Next: next, Ended: r.URL.Query().Get("ended") == "true"})
}

func (c *Console) writeLogin(w http.ResponseWriter, status int, data loginPage) {
	data.Title = c.views.text("login.title")
	c.write(w, status, "login", "bare", data)
}

// downPage is shown while the database that has the logins does not answer. It names no server: it is for those who are
// not logged in, too.
type downPage struct {
	Title, Address string
	Since          time.Time // when this daemon first found out
}

// unchecked answers a request whose login cannot be checked. A page that can be asked for again loads itself until it
// is answered; the parts of a page stay as they are.
func (c *Console) unchecked(w http.ResponseWriter, r *http.Request) {
	if r.Context().Err() != nil {
		return // the browser went away
	}
	w.Header().Set("Retry-After", retry.Later)
	if r.Header.Get("HX-Request") == "true" || r.Header.Get("Accept") == "text/event-stream" {
		http.Error(w, c.views.text("login.unchecked"), http.StatusServiceUnavailable)
		return
	}
	if r.Method == http.MethodGet {
		w.Header().Set("Refresh", retry.Later)
	}
	now := time.Now()
	c.down.CompareAndSwap(nil, &now)
	page := downPage{Title: c.views.text("login.down"), Address: c.Address, Since: now}
	if since := c.down.Load(); since != nil {
		page.Since = *since
	}
	c.write(w, http.StatusServiceUnavailable, "down", "bare", page)
}

// write writes a template that no session is needed for.
func (c *Console) write(w http.ResponseWriter, status int, name, block string, data any) {
	var out bytes.Buffer
	if err := c.views.render(&out, name, block, data); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write(out.Bytes())
}

func (c *Console) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 8<<10)
	if err := r.ParseForm(); err != nil {
		http.Error(w, c.views.text("login.form"), http.StatusBadRequest)
		return
	}
	name, next := r.PostForm.Get("user"), ownPath(r.PostForm.Get("next"))
	cookie, status, wait := c.begin(r, name)
	if status != 0 {
		data := loginPage{Address: c.Address, Next: next, User: name, Problem: c.views.text("login.wrong")}
		switch status {
		case http.StatusTooManyRequests:
			seconds := int(wait/time.Second) + 1
			w.Header().Set("Retry-After", strconv.Itoa(seconds))
			data.Problem = c.views.text("login.wait", seconds)
		case http.StatusServiceUnavailable:
			w.Header().Set("Retry-After", retry.Later)
			data.Problem = c.views.text("login.unchecked")
		}
		c.writeLogin(w, status, data)
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

// begin begins a session in the place of the one that the browser has: a session is of one login.
func (c *Console) begin(r *http.Request, name string) (cookie *http.Cookie, status int, wait time.Duration) {
	old, ok, err := c.Sessions.Peek(r)
	if ok && err == nil {
		_, err = c.Sessions.End(r.Context(), old)
	}
	if err != nil {
		c.Log.ErrorContext(r.Context(), "the login before could not be ended", "error", err)
		return nil, http.StatusServiceUnavailable, 0
	}
	return c.Sessions.Begin(r, name, r.PostForm.Get("password"))
}

func (v *visit) logout() error {
	cookie, err := v.c.Sessions.End(v.r.Context(), v.session)
	if err != nil {
		v.c.Log.ErrorContext(v.r.Context(), "a login could not be ended", "user", v.session.Identity.Name, "error", err)
		return v.refusal(http.StatusServiceUnavailable, "login.lasts")
	}
	http.SetCookie(v.w, cookie)
	http.Redirect(v.w, v.r, "/login", http.StatusSeeOther)
	return nil
}
