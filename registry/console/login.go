package console

import (
	"bytes"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// loginPage is what the login page shows.
type loginPage struct {
	Address, Next, User, Problem string
}

// toLogin sends a browser to the login page, which leads back to where it was.
func toLogin(w http.ResponseWriter, r *http.Request) {
	next := "/login"
	back := r.URL
	if r.Header.Get("HX-Request") == "true" {
		if at, err := url.Parse(r.Header.Get("HX-Current-URL")); err == nil {
			back = at
		}
	}
	if (r.Method == http.MethodGet || back != r.URL) && back.RequestURI() != "/" {
		next += "?" + url.Values{"next": {back.RequestURI()}}.Encode()
	}
	switch {
	case r.Header.Get("HX-Request") == "true":
		w.Header().Set("HX-Redirect", next)
		w.WriteHeader(http.StatusNoContent)
	case r.Header.Get("Accept") == "text/event-stream":
		w.WriteHeader(http.StatusNoContent) // which ends the browser's tries (HTML Standard, 9.2)
	default:
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
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
	if _, ok, err := c.Sessions.Peek(r); ok && err == nil {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	c.writeLogin(w, http.StatusOK, loginPage{Address: c.Address, Next: next})
}

func (c *Console) writeLogin(w http.ResponseWriter, status int, data loginPage) {
	var out bytes.Buffer
	if err := c.views.render(&out, "login", "bare", data); err != nil {
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
	if old, ok, err := c.Sessions.Peek(r); ok && err == nil {
		c.Sessions.End(old) // a session is of one login
	}
	cookie, status, wait := c.Sessions.Begin(r, name, r.PostForm.Get("password"))
	if status != 0 {
		data := loginPage{Address: c.Address, Next: next, User: name, Problem: c.views.text("login.wrong")}
		switch status {
		case http.StatusTooManyRequests:
			seconds := int(wait/time.Second) + 1
			w.Header().Set("Retry-After", strconv.Itoa(seconds))
			data.Problem = c.views.text("login.wait", seconds)
		case http.StatusServiceUnavailable:
			data.Problem = c.views.text("login.unchecked")
		}
		c.writeLogin(w, status, data)
		return
	}
	http.SetCookie(w, cookie)
	http.Redirect(w, r, next, http.StatusSeeOther)
}

func (v *visit) logout() error {
	http.SetCookie(v.w, v.c.Sessions.End(v.session))
	http.Redirect(v.w, v.r, "/login", http.StatusSeeOther)
	return nil
}
