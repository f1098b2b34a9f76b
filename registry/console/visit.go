package console

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// maxForm bounds a form in bytes. The longest is an image set.
const maxForm = 1 << 20

// csrfHeader has the value of a session in requests of htmx, in place of a field of the form. In an answer, which
// pages of other sites cannot read, it is what the page has to send from now on.
const csrfHeader = "X-CSRF-Token"

// visit is one request of a user that is logged in.
type visit struct {
	c       *Console
	w       http.ResponseWriter
	r       *http.Request
	session auth.Session
	upload  io.Reader // a file of the form, which is not read yet; nil: it has none
}

// shell is what each page has around its own content.
type shell struct {
	Title         string
	Place         string // in the navigation
	Places        []place
	User          auth.Identity
	CSRF, Notice  string
	Address, Page string
	Data          any
}

// serve answers the request, or says why not.
func (v *visit) serve(p page) {
	err := v.admit(p.action)
	if err == nil {
		err = p.serve(v)
	}
	if err != nil {
		v.fail(err)
	}
}

// admit returns an error for what the user may not do, and for a form that is not of this session.
func (v *visit) admit(action auth.Action) error {
	if !v.session.May(action) {
		if action == auth.Write {
			return v.refusal(http.StatusForbidden, "error.readonly")
		}
		return v.refusal(http.StatusForbidden, "error.forbidden")
	}
	if v.r.Method != http.MethodPost {
		return nil
	}
	if err := v.readForm(); err != nil {
		return &client.Refused{Status: http.StatusBadRequest, Refusal: api.Refusal{Problem: fmt.Sprintf("read the form: %v", err)}}
	}
	if !v.session.Sent(cmp.Or(v.r.Header.Get(csrfHeader), v.r.PostForm.Get("csrf"))) {
		if _, ok := v.part(); ok { // its session has ended, and another tab has logged in again
			v.w.Header().Set(csrfHeader, v.session.CSRF)
			return v.refusal(http.StatusForbidden, "error.csrf.part")
		}
		return v.refusal(http.StatusForbidden, "error.csrf")
	}
	return nil
}

// refusal is an error with a status, the text key, and the hint key.hint.
func (v *visit) refusal(status int, key string) error {
	return &client.Refused{Status: status, Refusal: api.Refusal{Problem: v.c.views.text(key), Hint: v.c.views.text(key + ".hint")}}
}

// field returns a field of the form, without blanks around it.
func (v *visit) field(name string) string { return strings.TrimSpace(v.r.PostForm.Get(name)) }

// part reports whether htmx asks for a part of a page, and which.
func (v *visit) part() (id string, ok bool) {
	return v.r.Header.Get("HX-Target"), v.r.Header.Get("HX-Request") == "true" && v.r.Header.Get("HX-Boosted") == ""
}

// show writes a page, or of it the part that htmx asks for. title is the key of a text or, if there is
// none of that key, the title itself; place is the page's in the navigation.
func (v *visit) show(name, place, title string, data any) error {
	return v.write(http.StatusOK, name, place, title, data)
}

// write is show with a status.
func (v *visit) write(status int, name, place, title string, data any) error {
	if id, ok := v.part(); ok && v.c.views.has(name, id) {
		return v.respond(status, name, id, data)
	}
	notice := v.session.Notice
	if notice != "" {
		v.c.Sessions.SetNotice(v.r.Context(), v.session, "")
	}
	return v.respond(status, name, "layout", shell{Title: v.c.views.textOr(title), Place: place, Places: v.places(),
		User: v.session.Identity, CSRF: v.session.CSRF, Notice: notice, Address: v.c.Address, Page: name, Data: data})
}

// respond writes a template. It is rendered before anything is sent, so that an error is answered as one.
func (v *visit) respond(status int, name, block string, data any) error {
	var out bytes.Buffer
	if err := v.c.views.render(&out, name, block, data); err != nil {
		return err
	}
	v.w.Header().Set("Content-Type", "text/html; charset=utf-8")
	v.w.Header().Add("Vary", "HX-Request")
	v.w.WriteHeader(status)
	_, _ = v.w.Write(out.Bytes()) // the client notices an error
	return nil
}

// places returns those of the navigation that the user may see.
func (v *visit) places() (seen []place) {
	for _, p := range places() {
		if v.session.May(p.action) {
			seen = append(seen, p)
		}
	}
	return seen
}

// done tells a success on the page that it leads to.
func (v *visit) done(path, notice string) error {
	v.c.Sessions.SetNotice(v.r.Context(), v.session, notice)
	if _, ok := v.part(); ok {
		v.w.Header().Set("HX-Redirect", path)
		v.w.WriteHeader(http.StatusNoContent)
		return nil
	}
	http.Redirect(v.w, v.r, path, http.StatusSeeOther)
	return nil
}

// problem is an error as people read it.
type problem struct{ Text, Hint string }

func problemOf(err error) problem { return problem{err.Error(), hint.Of(err)} }

// statusOf returns the status of the control API's answer, or 500.
func statusOf(err error) int {
	var refused *client.Refused
	if errors.As(err, &refused) {
		return refused.Status
	}
	return http.StatusInternalServerError
}

// fail answers with an error: as a page, or where the page has its errors.
func (v *visit) fail(err error) {
	status := statusOf(err)
	if v.r.Context().Err() != nil {
		return // the browser went away
	}
	if status == http.StatusInternalServerError {
		v.c.Log.ErrorContext(v.r.Context(), "console request failed", "method", v.r.Method, "path", v.r.URL.Path, "error", err)
	}
	if status == http.StatusServiceUnavailable {
		v.w.Header().Set("Retry-After", retry.Later)
	}
	if _, ok := v.part(); ok {
		v.w.Header().Set("HX-Retarget", "#problem")
		v.w.Header().Set("HX-Reswap", "innerHTML")
		err = v.respond(status, "error", "problem", problemOf(err))
	} else {
		if status == http.StatusServiceUnavailable && v.r.Method == http.MethodGet {
			v.w.Header().Set("Refresh", retry.Later) // the page asks again
		}
		err = v.write(status, "error", "", "error.title", problemOf(err))
	}
	if err != nil {
		http.Error(v.w, err.Error(), http.StatusInternalServerError)
	}
}

func (v *visit) notFound() error { return v.refusal(http.StatusNotFound, "error.notfound") }

// every is how often what moves is looked at.
const every = time.Second

// live sends a part of a page as server-sent events: at once, and whenever it has changed, until the
// browser leaves, its session ends or is of another role, or the registry stops.
func (v *visit) live(name, block string, read func() (any, error)) error {
	v.w.Header().Set("Content-Type", "text/event-stream")
	v.w.WriteHeader(http.StatusOK)
	out := http.NewResponseController(v.w)
	tick := time.NewTicker(every)
	defer tick.Stop()
	var last []byte
	for silent := 0; ; silent++ {
		data, err := read()
		if v.r.Context().Err() != nil {
			return nil
		}
		var html bytes.Buffer
		if err == nil {
			err = v.c.views.render(&html, name, block, data)
		}
		if err != nil {
			html.Reset()
			if err := v.c.views.render(&html, "error", "problem", problemOf(err)); err != nil {
				return nil
			}
		}
		switch {
		case !bytes.Equal(last, html.Bytes()):
			last, silent = bytes.Clone(html.Bytes()), 0
			_, err = v.w.Write(event(last))
		case silent >= 15: // so that proxies see that it lasts
			silent = 0
			_, err = v.w.Write([]byte(":\n\n"))
		default:
			err = nil
		}
		if err != nil || out.Flush() != nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-v.r.Context().Done():
			return nil
		case <-v.c.Drain.Done():
			return nil
		}
		if !v.c.Sessions.Lasts(v.r, v.session) {
			return nil // the browser comes back, and is answered as what the user may be now
		}
	}
}

// event returns html as an event: each line of it is a field (HTML Standard, 9.2).
func event(html []byte) []byte {
	var out bytes.Buffer
	for line := range bytes.Lines(html) {
		out.WriteString("data: ")
		out.Write(bytes.TrimRight(line, "\r\n"))
		out.WriteByte('\n')
	}
	out.WriteByte('\n')
	return out.Bytes()
}
