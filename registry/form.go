package registry

import (
	"errors"
	"net/http"
	"time"
)

// form is a body that is read before its request was admitted: that of a login, in the console or for a token. A
// client without a login could have as many under way as HTTP/2 has streams, and never send them.
type form struct {
	of      *observed
	reading bool // it has a place
	timed   bool
}

var errForms = errors.New("too many logins are under way on this connection")

// begin is called before each read.
func (f *form) begin() error {
	if f.reading || f.of.conn == nil || f.of.admitted {
		return nil
	}
	if !f.of.conn.BeginForm() {
		return errForms
	}
	f.reading, f.timed = true, true
	_ = http.NewResponseController(f.of.ResponseWriter).SetReadDeadline(time.Now().Add(f.of.patience.form))
	return nil
}

// whole is called when all has come. net/http reads on to notice a client that goes away; a deadline would look the
// same.
func (f *form) whole() {
	if f.timed {
		f.timed = false
		_ = http.NewResponseController(f.of.ResponseWriter).SetReadDeadline(time.Time{})
	}
}

// end is called when the handler has returned.
func (f *form) end() {
	if f.reading {
		f.reading = false
		f.of.conn.EndForm()
	}
}
