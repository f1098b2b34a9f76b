package oci

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/pace"
)

// paced serves the API with little patience, over TLS with HTTP/1.1 or HTTP/2.
func paced(t *testing.T, f *fixture, h2 bool) *httptest.Server {
	t.Helper()
	f.api.patience = 200 * time.Millisecond
	server := httptest.NewUnstartedServer(f.api)
	server.EnableHTTP2 = h2
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func eachProtocol(t *testing.T, test func(t *testing.T, h2 bool)) {
	t.Run("h1", func(t *testing.T) { test(t, false) })
	t.Run("h2", func(t *testing.T) { test(t, true) })
}

// A client that stops in the middle of a body gets an answer, and the session keeps what arrived.
func TestPace_upload(t *testing.T) {
	eachProtocol(t, func(t *testing.T, h2 bool) {
		f := newFixture(t, nil)
		server := paced(t, f, h2)
		server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			begun := make([]byte, 1000) // may be slow: patience begins when they have arrived
			if _, err := io.ReadFull(r.Body, begun); err != nil {
				t.Error(err)
			}
			r.Body = struct {
				io.Reader
				io.Closer
			}{io.MultiReader(bytes.NewReader(begun), r.Body), r.Body}
			f.api.ServeHTTP(w, r)
		})
		location := f.do(http.StatusAccepted, "POST", "/v2/a/blobs/uploads/", nil).Header.Get("Location")
		r, w := io.Pipe()
		defer w.Close()
		go w.Write(make([]byte, 1000)) // and stops
		req, err := http.NewRequest("PATCH", server.URL+location, r)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusRequestTimeout {
			t.Errorf("got %s", resp.Status)
		}
		f.do(http.StatusNoContent, "GET", location, nil).wantHeader(t, "Range", "0-999")
	})
}

// trickle is a body that returns a little at each Read.
type trickle struct{ every time.Duration }

func (b trickle) Read(p []byte) (int, error) { time.Sleep(b.every); p[0] = 'x'; return 1, nil }
func (trickle) Close() error                 { return nil }

// deadlines is a ResponseWriter that records its deadlines.
type deadlines struct {
	http.ResponseWriter
	read, write []time.Time
}

func (d *deadlines) SetReadDeadline(t time.Time) error  { d.read = append(d.read, t); return nil }
func (d *deadlines) SetWriteDeadline(t time.Time) error { d.write = append(d.write, t); return nil }

// Single bytes are not progress: they move the deadline by no more than the time that they took.
func TestPace_trickle(t *testing.T) {
	w := new(deadlines)
	began := time.Now()
	body := &pacedBody{ReadCloser: trickle{2 * time.Millisecond}, conn: http.NewResponseController(w), patience: 20 * time.Millisecond}
	for range 50 {
		if _, err := body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	}
	last := w.read[len(w.read)-1]
	if len(w.read) < 2 || last.Sub(began) > body.meter.Left(body.patience)+time.Since(began) {
		t.Errorf("%d deadlines, the last %v after the beginning, with %v left", len(w.read), last.Sub(began), body.meter.Left(body.patience))
	}
	// Many of them are.
	body.meter.Took(0, pace.Least-51)
	_, err := body.Read(make([]byte, 1))
	if left := body.meter.Left(body.patience); err != nil || left != body.patience {
		t.Errorf("%v left after progress (%v)", left, err)
	}
	// No deadline is left after the end.
	body.ReadCloser = http.NoBody
	if _, err := body.Read(make([]byte, 1)); err != io.EOF || !w.read[len(w.read)-1].IsZero() {
		t.Errorf("%v, deadlines %v", err, w.read)
	}
}

// A client that does not read its answer from an upstream is cut off; one that reads gets
// everything. For stored blobs TestServer_answersEnd shows it.
func TestPace_download(t *testing.T) {
	content := randomBytes(1, 32<<20) // more than the buffers hold
	d := digest.FromBytes(content)
	eachProtocol(t, func(t *testing.T, h2 bool) {
		u := &upstream{blobs: map[digest.Digest][]byte{d: content}}
		takeAndStall(t, newFixture(t, u), h2, "/v2/up/x/blobs/"+d.String(), content)
		if n := u.open.Load(); n != 0 {
			t.Errorf("%d blobs of the upstream were not closed", n)
		}
	})
}

func takeAndStall(t *testing.T, f *fixture, h2 bool, path string, content []byte) {
	t.Helper()
	server := paced(t, f, h2)
	ended := make(chan struct{}, 2)
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- struct{}{} }()
		f.api.ServeHTTP(w, r)
	})
	f.api.patience = time.Minute // a busy machine must not fail this part
	whole, err := server.Client().Get(server.URL + path)
	if err != nil {
		t.Fatal(err)
	}
	defer whole.Body.Close()
	if got, err := io.ReadAll(whole.Body); err != nil || !bytes.Equal(got, content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	<-ended
	f.api.patience = 200 * time.Millisecond
	stalled, err := server.Client().Get(server.URL + path)
	<-ended // never closed without a deadline
	if err != nil {
		return // a busy machine may lose all of it
	}
	defer stalled.Body.Close()
	if n, err := io.Copy(io.Discard, stalled.Body); err == nil {
		t.Errorf("got %d bytes without an error", n)
	}
}

// No deadline runs while the upstream is slow: in HTTP/2 one that passes ends the stream.
func TestPace_follow(t *testing.T) {
	w := &deadlines{write: make([]time.Time, 1)}
	during := func() bool { return !w.write[len(w.write)-1].IsZero() }
	content := (&API{patience: time.Minute}).follow(w, watchedContent{during: func() {
		if during() {
			t.Error("a deadline runs while the upstream is slow")
		}
	}})
	for range 2 {
		if _, err := content.Read(make([]byte, 1)); err != nil || !during() {
			t.Errorf("no deadline for the client (%v)", err)
		}
	}
}

// net/http reads several ranges in a goroutine that must stop when the handler returns: it would
// move the deadline of a finished answer.
func TestPace_severalRanges(t *testing.T) {
	slow := &slowUpstream{entered: make(chan struct{})}
	f := newFixture(t, slow)
	r := httptest.NewRequest("GET", "/v2/up/x/blobs/"+d256, nil)
	r.Header.Set("Range", "bytes=0-0,10-10")
	f.api.ServeHTTP(&goneClient{deadlines{ResponseWriter: httptest.NewRecorder()}, slow.entered}, r)
	if slow.reading.Load() != 0 {
		t.Error("read on after the answer")
	}
	w := new(deadlines)
	content := (&API{patience: time.Minute}).follow(w, bytes.NewReader([]byte("abc")))
	content.end()
	if n, err := content.Read(make([]byte, 1)); n != 0 || err == nil || len(w.write) != 0 {
		t.Errorf("after the end: %d bytes, %v, %d deadlines", n, err, len(w.write))
	}
}

// slowUpstream has a blob whose bytes do not arrive.
type slowUpstream struct {
	upstream
	entered chan struct{} // closed when it is read
	reading atomic.Int32
}

func (u *slowUpstream) Blob(ctx context.Context, _ string, _ digest.Digest) (io.ReadSeekCloser, int64, error) {
	return &slowBlob{upstreamBlob{bytes.NewReader(make([]byte, 100)), &u.upstream}, ctx, u}, 100, nil
}

type slowBlob struct {
	upstreamBlob
	ctx context.Context
	u   *slowUpstream
}

func (b *slowBlob) Read([]byte) (int, error) {
	b.u.reading.Add(1)
	defer b.u.reading.Add(-1)
	close(b.u.entered)
	<-b.ctx.Done()
	return 0, b.ctx.Err()
}

// goneClient reads nothing after entered is closed.
type goneClient struct {
	deadlines
	entered chan struct{}
}

func (w *goneClient) Write([]byte) (int, error) { <-w.entered; return 0, io.ErrClosedPipe }

// watchedContent calls during in each Read.
type watchedContent struct {
	io.Seeker
	during func()
}

func (c watchedContent) Read(p []byte) (int, error) { c.during(); return len(p), nil }
