package sample

import (
	"crypto/sha256"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
)

// Failing returns a handler that fails a share of the registry's requests, in percent: with 503,
// with a connection that is closed before the answer, or with one that is closed within it. The
// same order of requests has the same faults.
func Failing(inner http.Handler, percent int) http.Handler {
	f := &failing{inner: inner, percent: percent}
	f.random = rand.New(rand.NewChaCha8(sha256.Sum256([]byte("sample-upstream 1 faults"))))
	return f
}

type failing struct {
	inner   http.Handler
	percent int

	mu     sync.Mutex // guards random
	random *rand.Rand
}

// drawn is a fault, or none.
func (f *failing) drawn() (kind int, fails bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.random.IntN(3), f.random.IntN(100) < f.percent
}

func (f *failing) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	kind, fails := f.drawn()
	switch {
	case !fails || !strings.HasPrefix(r.URL.Path, "/v2/"):
		f.inner.ServeHTTP(w, r)
	case kind == 0:
		writeError(w, http.StatusServiceUnavailable, "UNAVAILABLE", "a fault that was asked for")
	case kind == 1:
		panic(http.ErrAbortHandler)
	default:
		f.inner.ServeHTTP(&cut{w}, r)
		panic(http.ErrAbortHandler) // there was no body to cut
	}
}

// cut closes the connection within the body.
type cut struct{ http.ResponseWriter }

func (w *cut) Write(p []byte) (int, error) {
	if _, err := w.ResponseWriter.Write(p[:len(p)/2]); err == nil {
		_ = http.NewResponseController(w.ResponseWriter).Flush() // what is not flushed is not sent
	}
	panic(http.ErrAbortHandler)
}
