package oci

import (
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/pace"
)

// renewal is how often the deadline is moved while bytes flow. In HTTP/2 each move is a message to the connection's
// goroutine.
const renewal = time.Second

// pacedBody is a request's body that fails with os.ErrDeadlineExceeded when it does not arrive, by the rule of package
// pace. That answers are taken is for the daemon to see to.
type pacedBody struct {
	io.ReadCloser
	conn     *http.ResponseController
	patience time.Duration

	armed time.Time // when the deadline was last moved
	meter pace.Meter
}

// paceBody returns r with its body paced. What is written to need not know of deadlines, as a test's does not.
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
		// net/http goes on reading, to notice that the client goes away. A deadline would look like that.
		_ = b.conn.SetReadDeadline(time.Time{})
	}
	return n, err
}

// followed is content that is on its way from an upstream while it is on its way to a client. The daemon gives every
// answer a deadline that moves as the client takes it; while the upstream is waited for, none must run, since that is no
// fault of the client's.
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

// end waits for a Read under way, and lets no other begin. It is for before the handler returns: net/http reads what it
// sends as several ranges in a goroutine of its own, which can outlive the handler, and to move the deadline of an
// answer that is over is a panic that ends the process.
func (c *followed) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}
