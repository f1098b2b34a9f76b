package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
)

// onBlobs returns a fault for requests for blobs, which it counts from 1.
func onBlobs(fault func(w http.ResponseWriter, r *http.Request, nth int) bool) func(http.ResponseWriter, *http.Request, int) bool {
	return func(w http.ResponseWriter, r *http.Request, nth int) bool {
		return strings.Contains(r.URL.Path, "/blobs/") && fault(w, r, nth)
	}
}

func TestClient_Blob_readsWhatWasAsked(t *testing.T) {
	f := newFixture(t)
	rc, size, err := f.client(t).Blob(t.Context(), repo, f.blob)
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	got, err := io.ReadAll(rc)
	if err != nil || !bytes.Equal(got, f.layer) || size != int64(len(f.layer)) {
		t.Errorf("got %d bytes of %d, %v", len(got), size, err)
	}
}

// serveRange serves the requested range of content that the registry lacks.
func serveRange(w http.ResponseWriter, r *http.Request, content []byte) bool {
	var start int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &start); err != nil {
		return false
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", start, len(content)-1, len(content)))
	w.Header().Set("Content-Length", fmt.Sprint(len(content)-start))
	w.WriteHeader(http.StatusPartialContent)
	_, _ = w.Write(content[start:])
	return true
}

func TestClient_Blob_resumes(t *testing.T) {
	for name, test := range map[string]struct {
		fault func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool
		stall time.Duration
	}{
		"after a lost connection": {fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if nth > 1 {
					return serveRange(w, r, f.layer)
				}
				sendPart(w, f.layer, 2<<20)
				cut()
				return true
			}
		}},
		"after a page of a proxy": {fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, nth int) bool {
				switch nth {
				case 1:
					sendPart(w, f.layer, 0)
					cut()
				case 3:
					sendPart(w, f.layer, 2<<20)
					cut()
				case 2, 4:
					w.Header().Set("Content-Type", "text/html")
					_, _ = io.WriteString(w, "<html>please wait</html>")
					return true
				}
				return serveRange(w, r, f.layer)
			}
		}},
		"where Range is ignored": {fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, _ *http.Request, nth int) bool {
				if nth == 1 {
					sendPart(w, f.layer, 2<<20)
					cut()
				}
				sendPart(w, f.layer, len(f.layer))
				return true
			}
		}},
		"where Range is ignored and the connection lost again, earlier": {fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, _ *http.Request, nth int) bool {
				sizes := []int{2 << 20, 1 << 20, len(f.layer)}
				sendPart(w, f.layer, sizes[nth-1])
				if nth < 3 {
					cut()
				}
				return true
			}
		}},
		"where Range is refused": {fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if nth == 1 {
					sendPart(w, f.layer, 2<<20)
					cut()
				}
				if r.Header.Get("Range") != "" {
					w.WriteHeader(http.StatusRequestedRangeNotSatisfiable)
					return true
				}
				return false
			}
		}},
		"where the registry serves ranges": {fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, _ *http.Request, nth int) bool {
				if nth == 1 {
					sendPart(w, f.layer, 2<<20)
					cut()
				}
				return false
			}
		}},
		"where no size is announced": {fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if nth > 1 {
					return serveRange(w, r, f.layer)
				}
				w.(http.Flusher).Flush()
				_, _ = w.Write(f.layer[:2<<20])
				w.(http.Flusher).Flush()
				cut()
				return true
			}
		}},
		"after a stall": {stall: 250 * time.Millisecond, fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if nth > 1 {
					return serveRange(w, r, f.layer)
				}
				sendPart(w, f.layer, 2<<20)
				<-r.Context().Done()
				return true
			}
		}},
		"after a trickle": {stall: 250 * time.Millisecond, fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if nth > 1 {
					return serveRange(w, r, f.layer)
				}
				sendPart(w, f.layer, 2<<20)
				for i := 2 << 20; r.Context().Err() == nil && i < len(f.layer); i++ {
					_, _ = w.Write(f.layer[i : i+1])
					w.(http.Flusher).Flush()
					time.Sleep(time.Millisecond) // far below pace.Least
				}
				return true
			}
		}},
		"after an answer that never began": {stall: 250 * time.Millisecond, fault: func(f *fixture) func(http.ResponseWriter, *http.Request, int) bool {
			return func(_ http.ResponseWriter, r *http.Request, nth int) bool {
				if nth == 1 {
					<-r.Context().Done()
				}
				return nth == 1
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			f.fault = onBlobs(test.fault(f))
			got, err := readBlob(t.Context(), f.client(t, func(o *Options) { o.stall = test.stall }), f.blob)
			if err != nil || !bytes.Equal(got, f.layer) {
				t.Errorf("got %d bytes, %v", len(got), err)
			}
		})
	}
	t.Run("from where it broke", func(t *testing.T) {
		f := newFixture(t)
		f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth > 1 {
				return serveRange(w, r, f.layer)
			}
			sendPart(w, f.layer, 1000)
			cut()
			return true
		})
		if _, err := readBlob(t.Context(), f.client(t), f.blob); err != nil {
			t.Fatal(err)
		}
		if got := f.ranges(); !slices.Equal(got, []string{"", fmt.Sprintf("bytes=1000-%d", len(f.layer)-1)}) {
			t.Errorf("asked for %q", got)
		}
	})
	t.Run("without limit while it makes progress", func(t *testing.T) {
		f := newFixture(t)
		f.layer = bytes.Repeat(f.layer, 5)
		d := digest.FromBytes(f.layer)
		const step = progress + 1
		f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			rest := f.layer[(nth-1)*step:]
			if nth > 1 {
				w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", (nth-1)*step, len(f.layer)-1, len(f.layer)))
				w.Header().Set("Content-Length", fmt.Sprint(len(rest)))
				w.WriteHeader(http.StatusPartialContent)
			}
			if len(rest) > step {
				sendPart(w, rest, step)
				cut()
			}
			_, _ = w.Write(rest)
			return true
		})
		got, err := readBlob(t.Context(), f.client(t, func(o *Options) { o.Retries = 1 }), d)
		if err != nil || !bytes.Equal(got, f.layer) {
			t.Errorf("got %d bytes of %d, %v", len(got), len(f.layer), err)
		}
	})
}

// A line goes dead silently. Over HTTP/2 all requests share it, retries too.
func TestClient_Blob_leavesADeadConnection(t *testing.T) {
	f := prepare(t)
	f.server = httptest.NewUnstartedServer(f)
	line := &line{Listener: f.server.Listener}
	f.server.Listener, f.server.EnableHTTP2 = line, true
	f.server.StartTLS()
	t.Cleanup(f.server.Close)
	f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
		if r.ProtoMajor != 2 {
			t.Errorf("the test is about HTTP/2, this is %s", r.Proto)
		}
		if nth > 1 {
			return false
		}
		sendPart(w, f.layer, 1<<20)
		line.die()
		<-r.Context().Done()
		return true
	})
	got, err := readBlob(t.Context(), f.client(t, func(o *Options) { o.SkipVerify, o.stall = true, 2*time.Second }), f.blob)
	if err != nil || !bytes.Equal(got, f.layer) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
}

// Of a request over HTTP/2 the stream alone may end, or the server ask for another connection.
func TestClient_Blob_overHTTP2(t *testing.T) {
	for name, end := range map[string]func(w http.ResponseWriter, layer []byte){
		"a stream that is reset": func(w http.ResponseWriter, layer []byte) { sendPart(w, layer, 2<<20); cut() },
		"a connection that ends": func(w http.ResponseWriter, layer []byte) {
			w.Header().Set("Connection", "close") // GOAWAY
			sendPart(w, layer, 1<<20)
			cut()
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := prepare(t)
			f.server = httptest.NewUnstartedServer(f)
			f.server.EnableHTTP2 = true
			f.server.StartTLS()
			t.Cleanup(f.server.Close)
			f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
				if r.ProtoMajor != 2 {
					t.Errorf("the test is about HTTP/2, this is %s", r.Proto)
				}
				if nth == 1 {
					end(w, f.layer)
				}
				return serveRange(w, r, f.layer)
			})
			got, err := readBlob(t.Context(), f.client(t, func(o *Options) { o.SkipVerify = true }), f.blob)
			if err != nil || !bytes.Equal(got, f.layer) || len(f.ranges()) != 2 {
				t.Errorf("got %d bytes, %v, with the ranges %q", len(got), err, f.ranges())
			}
		})
	}
}

// line is a listener whose connections can go dead: data on them is lost silently.
type line struct {
	net.Listener
	mu    sync.Mutex // guards conns
	conns []*mortal
}

type mortal struct {
	net.Conn
	dead atomic.Bool
}

func (l *line) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	m := &mortal{Conn: c}
	l.conns = append(l.conns, m)
	return m, nil
}

func (l *line) die() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		c.dead.Store(true)
	}
}

func (m *mortal) Write(p []byte) (int, error) {
	if m.dead.Load() {
		return len(p), nil
	}
	return m.Conn.Write(p)
}

func TestClient_Blob_givesUp(t *testing.T) {
	t.Run("on a line that breaks again and again", func(t *testing.T) {
		f := newFixture(t)
		f.fault = onBlobs(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			sendPart(w, f.layer, 1000)
			cut()
			return true
		})
		_, err := readBlob(t.Context(), f.client(t, func(o *Options) { o.Retries = 3 }), f.blob)
		wantText(t, asError(t, err).Error(), "byte 1000", "4 times in a row", f.blob.String())
		if got := f.count("GET", "/blobs/"+f.blob.String()); got != 4 {
			t.Errorf("%d requests", got)
		}
	})
	t.Run("on a blob that changes its size", func(t *testing.T) {
		f := newFixture(t)
		f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth > 1 {
				return serveRange(w, r, f.layer[:2<<20])
			}
			sendPart(w, f.layer, 1000)
			cut()
			return true
		})
		_, err := readBlob(t.Context(), f.client(t), f.blob)
		wantText(t, asError(t, err).Error(), fmt.Sprint(len(f.layer)), fmt.Sprint(2<<20))
	})
	t.Run("on another range than the requested one", func(t *testing.T) {
		f := newFixture(t)
		f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, nth int) bool {
			if nth > 1 {
				r.Header.Set("Range", "bytes=5-")
				return serveRange(w, r, f.layer)
			}
			sendPart(w, f.layer, 1000)
			cut()
			return true
		})
		_, err := readBlob(t.Context(), f.client(t), f.blob)
		wantText(t, asError(t, err).Error(), "from 1000", "bytes 5-")
	})
	t.Run("at once when cancelled", func(t *testing.T) {
		f := newFixture(t)
		ctx, cancel := context.WithCancel(t.Context())
		f.fault = onBlobs(func(w http.ResponseWriter, r *http.Request, _ int) bool {
			sendPart(w, f.layer, 1000)
			<-r.Context().Done()
			return true
		})
		rc, _, err := f.client(t).Blob(ctx, repo, f.blob)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if _, err := io.ReadFull(rc, make([]byte, 1000)); err != nil {
			t.Fatal(err)
		}
		cancel()
		if _, err := rc.Read(make([]byte, 1)); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		if len(f.naps) != 0 {
			t.Errorf("waited %v after the cancellation", f.naps)
		}
	})
}

func TestClient_Blob_verifies(t *testing.T) {
	lie := func(length bool) func(f *fixture) {
		return func(f *fixture) {
			f.layer[len(f.layer)-1]++
			f.fault = onBlobs(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
				if length {
					w.Header().Set("Content-Length", fmt.Sprint(len(f.layer)))
				}
				_, _ = w.Write(f.layer)
				return true
			})
		}
	}
	for name, spoil := range map[string]func(f *fixture){"known size": lie(true), "unknown size": lie(false)} {
		t.Run(name, func(t *testing.T) {
			f := newFixture(t)
			spoil(f)
			_, err := readBlob(t.Context(), f.client(t), f.blob)
			e := asError(t, err)
			wantText(t, e.Error(), "not to "+f.blob.String())
			wantText(t, e.Hint(), "damaged")
			if got := f.count("GET", "/blobs/"+f.blob.String()); got != 1 {
				t.Errorf("%d requests", got)
			}
		})
	}
	t.Run("before the last byte, for readers that stop there", func(t *testing.T) {
		f := newFixture(t)
		lie(true)(f)
		rc, size, err := f.client(t).Blob(t.Context(), repo, f.blob)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if _, err := io.ReadFull(rc, make([]byte, size)); err == nil {
			t.Error("a damaged blob was returned whole")
		}
	})
	t.Run("unless the reader verifies", func(t *testing.T) {
		f := newFixture(t)
		lie(true)(f)
		rc, size, err := f.client(t).BlobFrom(t.Context(), repo, f.blob, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		if got, err := io.ReadAll(rc); err != nil || int64(len(got)) != size || digest.FromBytes(got) == f.blob {
			t.Errorf("got %d bytes, %v", len(got), err)
		}
	})
	t.Run("at the end where no size is announced", func(t *testing.T) {
		f := newFixture(t)
		f.fault = onBlobs(func(w http.ResponseWriter, _ *http.Request, _ int) bool {
			w.(http.Flusher).Flush() // chunked from here on
			_, _ = w.Write(f.layer)
			return true
		})
		rc, size, err := f.client(t).Blob(t.Context(), repo, f.blob)
		if err != nil {
			t.Fatal(err)
		}
		defer rc.Close()
		got, err := io.ReadAll(rc)
		if err != nil || size != -1 || !bytes.Equal(got, f.layer) {
			t.Errorf("got %d bytes, size %d, %v", len(got), size, err)
		}
	})
}
