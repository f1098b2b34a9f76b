package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

type remoteKey struct{}

// WithRemote returns a context whose calls of a client by NewInside are for a peer at addr, for the log.
func WithRemote(ctx context.Context, addr string) context.Context {
	return context.WithValue(ctx, remoteKey{}, addr)
}

// NewInside returns a client of a handler in the same process. The user of each call is the one of
// its context.
func NewInside(h http.Handler) *Client {
	via := &http.Client{Transport: inside{h}}
	return &Client{http: via, patient: via, base: "http://local"}
}

// inside answers requests by a handler, whose answer is read while it is written.
type inside struct{ handler http.Handler }

// RoundTrip implements http.RoundTripper.
func (t inside) RoundTrip(r *http.Request) (*http.Response, error) {
	body, out := io.Pipe()
	w := &insideWriter{header: http.Header{}, out: out, begun: make(chan struct{})}
	served := r.Clone(r.Context())
	served.RemoteAddr, _ = r.Context().Value(remoteKey{}).(string)
	if served.Body == nil {
		served.Body = http.NoBody
	}
	go func() {
		defer func() {
			// As in a server, a panic ends the request and not the process.
			if p := recover(); p != nil {
				w.fail(fmt.Errorf("the handler of %s %s panicked: %v", r.Method, r.URL.Path, p))
				return
			}
			w.WriteHeader(http.StatusOK)
			w.out.Close()
		}()
		t.handler.ServeHTTP(w, served)
	}()
	select {
	case <-w.begun:
	case <-r.Context().Done():
		body.CloseWithError(r.Context().Err())
		return nil, r.Context().Err()
	}
	if w.failed != nil {
		return nil, w.failed
	}
	return &http.Response{StatusCode: w.status, Status: http.StatusText(w.status), Header: w.sent, Body: body, Request: r,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, ContentLength: -1}, nil
}

type insideWriter struct {
	header http.Header
	out    *io.PipeWriter

	once   sync.Once
	begun  chan struct{} // closed when what follows is set
	status int
	sent   http.Header
	failed error
}

func (w *insideWriter) Header() http.Header { return w.header }

// Flush implements http.Flusher: what is written is read at once.
func (w *insideWriter) Flush() {}

func (w *insideWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

func (w *insideWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.out.Write(p)
}

func (w *insideWriter) fail(err error) {
	w.once.Do(func() {
		w.failed = err
		close(w.begun)
	})
	w.out.CloseWithError(err)
}
