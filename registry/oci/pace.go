package oci

import (
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/pace"
)

// renewal is the interval at which a deadline moves while bytes flow. In HTTP/2 each move is a
// message to the connection's goroutine.
const renewal = time.Second

// pacedBody is a request's body that fails with os.ErrDeadlineExceeded if it arrives too slowly,
// see package pace. The daemon paces answers.
type pacedBody struct {
	io.ReadCloser
	conn     *http.ResponseController
	patience time.Duration

	armed time.Time // the last move of the deadline
	meter pace.Meter
}

// paceBody returns r with its body paced. A ResponseWriter without deadlines, as in tests, is
// allowed.
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

// followed is content that a client reads while it arrives from an upstream. The deadline of the
// answer is off while the upstream is slow.
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

// end waits for a Read under way and makes further ones fail. Call it before the handler returns:
// net/http reads several ranges in a goroutine that can outlive it, and moving the deadline of a
// finished answer panics.
func (c *followed) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
}

const (
	// smallPiece is the first size of a piece.
	smallPiece = 32 << 10
	// largePiece is the size at which HTTP/2 is fastest. Pieces of 32 KiB cost 15 %
	// of the throughput.
	largePiece = 256 << 10
	// quickly is the time in which a client must take a piece for the next to be larger. The
	// deadline of an answer moves between pieces, so a slow client gets small ones.
	quickly = 100 * time.Millisecond
)

// piecewise copies an answer in pieces that fit the speed of its client.
// http.ServeContent uses its ReadFrom.
type piecewise struct{ http.ResponseWriter }

// Unwrap is for http.ResponseController.
func (w piecewise) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// ReadFrom sends all of r.
func (w piecewise) ReadFrom(r io.Reader) (n int64, err error) {
	buffer := make([]byte, smallPiece)
	for piece := buffer; ; {
		m, readErr := r.Read(piece)
		began := time.Now()
		if m > 0 {
			written, err := w.Write(piece[:m])
			n += int64(written)
			if err != nil {
				return n, err
			}
		}
		switch {
		case readErr == io.EOF:
			return n, nil
		case readErr != nil:
			return n, readErr
		case time.Since(began) >= quickly:
			piece = buffer[:smallPiece]
			continue
		case m == len(buffer) && m < largePiece:
			buffer = make([]byte, 2*m)
		}
		piece = buffer
	}
}
