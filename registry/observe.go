package registry

import (
	"context"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
)

// observe is around every request: it logs it, counts it, and turns a panic into a 500. user is
// who uses a listener that asks for no login.
func (d *daemon) observe(user string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o := &observed{ResponseWriter: w, user: user}
		began := time.Now()
		body := &countingBody{ReadCloser: r.Body}
		defer func() {
			failure := recover()
			if failure != nil && failure != http.ErrAbortHandler {
				d.log.Error("a handler panicked", "method", r.Method, "path", r.URL.Path, "panic", failure, "stack", string(debug.Stack()))
				failure = o.fail()
			}
			d.record(r, o, body.n, time.Since(began))
			if failure != nil {
				panic(failure) // http.ErrAbortHandler: net/http breaks the connection, silently
			}
		}()
		inner := r.WithContext(context.WithValue(r.Context(), observedKey{}, o))
		if r.Body != http.NoBody {
			inner.Body = body
			if c, ok := r.Context().Value(watchedKey{}).(*watched); ok {
				body.from = c
				c.begin()
				defer c.end()
			}
		}
		next.ServeHTTP(o, inner)
	})
}

// record logs and counts a request that has ended. The query is left out: it carries upload states.
func (d *daemon) record(r *http.Request, o *observed, received int64, took time.Duration) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	d.metrics.request(r, o, received, took)
	if d.access == nil {
		return
	}
	d.access.Info("request", "method", r.Method, "path", r.URL.Path, "status", o.status, "bytes", o.sent,
		"received", received, "duration", took.Round(time.Microsecond), "user", o.user, "remote", r.RemoteAddr, "agent", r.UserAgent())
}

type observedKey struct{}

// named notes who the authenticator found the user to be, for the access log.
func named(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if o, ok := r.Context().Value(observedKey{}).(*observed); ok {
			if id, ok := auth.IdentityFrom(r.Context()); ok {
				o.user = id.Name
			}
		}
		next.ServeHTTP(w, r)
	})
}

// observed is a ResponseWriter that remembers what was answered.
type observed struct {
	http.ResponseWriter
	user   string
	status int // 0 until the header is written
	sent   int64
}

func (o *observed) WriteHeader(status int) {
	if o.status == 0 && status >= 200 { // 1xx are sent ahead of the answer
		o.status = status
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Write(p []byte) (int, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	n, err := o.ResponseWriter.Write(p)
	o.sent += int64(n)
	return n, err
}

// ReadFrom lets net/http copy from a file its own way.
func (o *observed) ReadFrom(r io.Reader) (int64, error) {
	if o.status == 0 {
		o.status = http.StatusOK
	}
	n, err := io.Copy(o.ResponseWriter, r)
	o.sent += n
	return n, err
}

// Flush is for those who ask for an http.Flusher and not for an http.ResponseController.
func (o *observed) Flush() { _ = http.NewResponseController(o.ResponseWriter).Flush() }

// Unwrap is for http.ResponseController.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// fail answers after a panic. If the answer had begun, the connection must break, so that nobody
// takes half a blob for a whole one.
func (o *observed) fail() any {
	if o.status != 0 {
		return http.ErrAbortHandler
	}
	http.Error(o, "internal error; the registry's log has more", http.StatusInternalServerError)
	return nil
}

type countingBody struct {
	io.ReadCloser
	from *watched // nil on the control socket
	n    int64
}

func (b *countingBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.n += int64(n)
	if b.from != nil {
		b.from.taken(int64(n))
	}
	return n, err
}

func isV2(path string) bool { return path == "/v2" || strings.HasPrefix(path, "/v2/") }
