package oci

import (
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/pace"
)

// renewal is the interval at which a deadline is moved while bytes flow. In HTTP/2 each move is a message to the
// connection's goroutine.
const renewal = time.Second

// pacedBody is a request's body that fails with os.ErrDeadlineExceeded if it arrives too slowly, see package pace. The
// daemon paces answers.
type pacedBody struct {
	io.ReadCloser
	conn     *http.ResponseController
	patience time.Duration

	armed time.Time // the last move of the deadline
	meter pace.Meter
}

// paceBody returns r with its body paced. A ResponseWriter without deadlines, as in tests, is allowed.
func (a *API) paceBody(w http.ResponseWriter, r *http.Request) *http.Request {
	if r.Body == nil || r.Body == http.NoBody {
		return r
	}
	r = r.WithContext(r.Context())
	r.Body = &pacedBody{ReadCloser: r.Body, conn: http.NewResponseController(w), patience: a.patience}
	return r
}

func (b *pacedBody) Read(p []byte) (int, error) {
	began := time.Now()
	if began.Sub(b.armed) >= min(renewal, b.patience/2) {
		b.armed = began
		_ = b.conn.SetReadDeadline(began.Add(b.meter.Left(b.patience)))
	}
	n, err := b.ReadCloser.Read(p)
	b.meter.Took(time.Since(began), n)
	if err == io.EOF {
		// net/http reads on to notice a client that goes away. A deadline would look the same.
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// followed is content that a client reads while it arrives from an upstream. The daemon's deadline for an answer moves as
// the client reads; it is off while the upstream is slow, which is not the client's fault.
type followed struct {
	io.ReadSeeker
	conn     *http.ResponseController
	patience time.Duration

	mu    sync.Mutex // held by each Read; guards what follows
	ended bool
}

func (a *API) follow(w http.ResponseWriter, content io.ReadSeeker) *followed {
	return &followed{ReadSeeker: content, conn: http.NewResponseController(w), patience: a.patience}
}

func (c *followed) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.ended {
		return 0, os.ErrClosed
	}
	_ = c.conn.SetWriteDeadline(time.Time{})
	defer func() { _ = c.conn.SetWriteDeadline(time.Now().Add(c.patience)) }()
	return c.ReadSeeker.Read(p)
}

// end waits for a Read under way and makes further ones fail. Call it before the handler returns: net/http reads several
// ranges in a goroutine that can outlive the handler, and moving the deadline of a finished answer panics.
func (c *followed) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}
