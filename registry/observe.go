package registry

import (
	"cmp"
	"context"
	"io"
	"net/http"
	"runtime/debug"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/auth"
	"github.com/mirror-appliance/appliance/registry/limits"
)

// observe logs and counts every request, and turns a panic into a 500. user is the name for the log
// on a listener without logins.
func (d *daemon) observe(user string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body := &countingBody{ReadCloser: r.Body}
		o := &observed{ResponseWriter: w, user: user, request: r, conn: limits.ConnOf(r.Context()),
			patience: d.patience, flow: d.traffic.of(r)}
		body.form.of = o
		o.conn.Asked()
		if o.flow != &d.traffic.pulls {
			o.flow, body.flow = nil, o.flow
		}
		began := time.Now()
		moving := cmp.Or(o.flow, body.flow)
		moving.begin()
		defer func() {
			moving.end()
			failure := recover()
			if failure != nil && failure != http.ErrAbortHandler {
				d.log.Error("a handler panicked", "method", r.Method, "path", r.URL.Path, "panic", failure)
				for line := range strings.Lines(string(debug.Stack())) { // a field of a log line is short
					d.log.Error("stack of the panic", "at", strings.TrimSpace(line))
				}
				failure = o.fail()
			}
			o.end()
			d.record(r, o, body.n, time.Since(began))
			if failure != nil {
				panic(failure) // http.ErrAbortHandler: net/http closes the connection
			}
		}()
		inner := r.WithContext(context.WithValue(r.Context(), observedKey{}, o))
		if r.Body != http.NoBody {
			defer body.form.end()
			inner.Body = body
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
	logAccess(r.Context(), d.access, accessLine{
		at: time.Now(), method: r.Method, path: r.URL.Path, status: o.status, sent: o.sent, received: received,
		took: took.Round(time.Microsecond), user: o.user, remote: r.RemoteAddr, agent: r.UserAgent(),
	})
}

type observedKey struct{}

// admitted records the authenticated user for the access log, and counts the request as one of that
// user. Requests beyond the limit are denied.
func admitted(next http.Handler, denied func(http.ResponseWriter, *http.Request, int)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		o, ok := r.Context().Value(observedKey{}).(*observed)
		id, known := auth.IdentityFrom(r.Context())
		if ok && known {
			o.user = id.Name
			o.admitted = o.conn == nil || o.conn.Begin(o.user, r.ContentLength)
			if !o.admitted {
				w.Header().Set("Retry-After", "1")
				denied(w, r, http.StatusTooManyRequests)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// patience is how long a client may take none of an answer, beside the time that a piece needs at
// slowestClient. A whole answer has no limit. A form has one: how long a client without a login may send it.
type patience struct{ answer, refusal, form time.Duration }

var defaultPatience = patience{answer: time.Minute, refusal: 15 * time.Second, form: 15 * time.Second}

const (
	slowestClient = 4 << 10 // bytes a second
	// answerPiece is the size of the pieces for net/http, which reports no progress within one.
	answerPiece = 256 << 10
	// renewal is how often the deadline moves while bytes flow. In HTTP/2 each move is a message to
	// the connection's goroutine.
	renewal = time.Second
)

// observed is a ResponseWriter that remembers the answer. On the public listeners it moves the
// deadline for writing as the client takes the answer, so that every answer ends.
type observed struct {
	http.ResponseWriter
	request  *http.Request
	conn     *limits.Conn // nil on the control socket
	patience patience
	user     string
	admitted bool
	refusing bool // it has a place for the refusal of a request that was not admitted

	flow   *flow     // what it sends is part of; nil: of none
	armed  time.Time // the last move of the deadline
	status int       // 0 until the header is written
	sent   int64
}

// end gives the request's place back. With HTTP/2 net/http keeps the end of the answer until the
// handler has returned, and the client may take it slowly.
func (o *observed) end() {
	if o.status != 0 {
		o.arm(0)
	}
	switch {
	case o.conn == nil:
	case o.admitted:
		o.conn.End(o.user)
	case o.refusing:
		if o.request.ProtoMajor == 2 {
			_ = http.NewResponseController(o.ResponseWriter).Flush()
		}
		o.conn.EndRefusal()
	}
}

// begin is called when the answer begins.
func (o *observed) begin(status int) {
	o.status = status
	if o.conn == nil {
		return
	}
	if status >= 400 && o.request.ProtoMajor == 2 {
		_ = o.request.Body.Close() // no handler reads on after an error
	}
	if !o.admitted {
		if !o.conn.BeginRefusal() {
			panic(http.ErrAbortHandler)
		}
		o.refusing = true
	}
	o.arm(0)
}

// arm moves the deadline for n bytes that are about to be sent.
func (o *observed) arm(n int) {
	if o.conn == nil {
		return
	}
	now := time.Now()
	if now.Sub(o.armed) < renewal && n <= answerPiece/8 {
		return
	}
	o.armed = now
	limit := o.patience.answer
	if o.status >= 400 {
		limit = o.patience.refusal
	}
	limit += time.Duration(n) * time.Second / slowestClient
	_ = http.NewResponseController(o.ResponseWriter).SetWriteDeadline(now.Add(limit))
}

func (o *observed) WriteHeader(status int) {
	if o.status == 0 && status >= 200 { // 1xx are sent ahead of the answer
		o.begin(status)
	}
	o.ResponseWriter.WriteHeader(status)
}

func (o *observed) Write(p []byte) (int, error) {
	if o.status == 0 {
		o.begin(http.StatusOK)
	}
	written := 0
	for {
		piece := p[written:min(len(p), written+answerPiece)]
		o.arm(len(piece))
		n, err := o.ResponseWriter.Write(piece)
		written += n
		o.sent += int64(n)
		o.flow.add(n)
		if err != nil || written >= len(p) {
			return written, err
		}
	}
}

// ReadFrom lets net/http copy from a file its own way.
func (o *observed) ReadFrom(r io.Reader) (int64, error) {
	if o.status == 0 {
		o.begin(http.StatusOK)
	}
	if o.conn != nil || o.flow != nil {
		r = &armingReader{r, o}
	}
	n, err := io.Copy(o.ResponseWriter, r)
	o.sent += n
	return n, err
}

// armingReader moves the deadline with each Read: the client has taken the bytes of the last one.
type armingReader struct {
	io.Reader
	answer *observed
}

func (r *armingReader) Read(p []byte) (int, error) {
	r.answer.arm(len(p))
	n, err := r.Reader.Read(p)
	r.answer.flow.add(n)
	return n, err
}

// Flush implements http.Flusher. After it the handler may pause without a limit.
func (o *observed) Flush() { _ = o.FlushError() }

// FlushError is for an http.ResponseController.
func (o *observed) FlushError() error {
	if o.status == 0 {
		o.begin(http.StatusOK)
	}
	control := http.NewResponseController(o.ResponseWriter)
	o.arm(answerPiece)
	err := control.Flush()
	if o.conn != nil {
		_ = control.SetWriteDeadline(time.Time{})
		o.armed = time.Time{}
	}
	return err
}

// Unwrap is for http.ResponseController.
func (o *observed) Unwrap() http.ResponseWriter { return o.ResponseWriter }

// fail answers after a panic. If the answer had begun, it returns http.ErrAbortHandler, so that no
// client takes half a blob for a whole one.
func (o *observed) fail() any {
	if o.status != 0 {
		return http.ErrAbortHandler
	}
	http.Error(o, "internal error; the registry's log has more", http.StatusInternalServerError)
	return nil
}

type countingBody struct {
	io.ReadCloser
	n    int64
	flow *flow // nil: it is of none
	form form
}

func (b *countingBody) Read(p []byte) (int, error) {
	if err := b.form.begin(); err != nil {
		return 0, err
	}
	n, err := b.ReadCloser.Read(p)
	if err == io.EOF {
		b.form.whole()
	}
	b.n += int64(n)
	b.flow.add(n)
	return n, err
}

func isV2(path string) bool { return path == "/v2" || strings.HasPrefix(path, "/v2/") }
