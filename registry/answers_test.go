package registry

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/crypto/bcrypt"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/mirror-appliance/appliance/registry/limits"
	"github.com/mirror-appliance/appliance/registry/store"
)

// served is a daemon's TLS listener with limits of a test's own. It has a user, "push" with the
// password "long-enough".
type served struct {
	*daemon
	addr  string
	roots *x509.CertPool
}

func serveTLS(t *testing.T, change func(*limits.Limits)) *served {
	t.Helper()
	return serveDaemon(t, openDaemon(t, io.Discard), change)
}

func serveDaemon(t *testing.T, d *daemon, change func(*limits.Limits)) *served {
	t.Helper()
	change(&d.limits)
	hash, err := bcrypt.GenerateFromPassword([]byte("long-enough"), bcrypt.MinCost)
	must(t, err)
	must(t, d.store.Users.Put(t.Context(), store.User{Name: "push", Role: "push", PasswordHash: hash}))
	pem, err := os.ReadFile(d.cfg.TLS.CA)
	must(t, err)
	s := &served{daemon: d, roots: x509.NewCertPool()}
	s.roots.AppendCertsFromPEM(pem)
	servers, err := d.listen(t.Context())
	must(t, err)
	ended := make(chan error, len(servers))
	for _, one := range servers {
		go func() { ended <- one.serve() }()
	}
	s.addr = servers[1].listener.Addr().String()
	t.Cleanup(func() {
		for _, one := range servers {
			must(t, one.cut())
			must(t, <-ended)
		}
	})
	return s
}

// dial opens a connection that speaks proto.
func (s *served) dial(t *testing.T, proto string) *tls.Conn {
	t.Helper()
	c, err := tls.Dial("tcp", s.addr, &tls.Config{RootCAs: s.roots, ServerName: "registry.test", NextProtos: []string{proto}})
	must(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// raw is HTTP/2, frame by frame.
type raw struct {
	*http2.Framer
	conn    *tls.Conn
	decoder *hpack.Decoder
}

// http2 opens a connection whose client can take no answer's body.
func (s *served) http2(t *testing.T) raw {
	t.Helper()
	c := s.dial(t, "h2")
	_, err := io.WriteString(c, http2.ClientPreface)
	must(t, err)
	f := raw{http2.NewFramer(c, c), c, hpack.NewDecoder(4096, nil)}
	must(t, f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
	must(t, f.WriteSettingsAck())
	return f
}

func (f raw) request(t *testing.T, stream uint32, method, path, user string, ends bool) {
	t.Helper()
	var block bytes.Buffer
	e := hpack.NewEncoder(&block)
	for _, h := range [][2]string{{":method", method}, {":scheme", "https"}, {":authority", "registry.test"}, {":path", path},
		{"content-type", "application/x-www-form-urlencoded"}, {"authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":long-enough"))}} {
		if h[0] != "authorization" || user != "" {
			must(t, e.WriteField(hpack.HeaderField{Name: h[0], Value: h[1]}))
		}
	}
	must(t, f.WriteHeaders(http2.HeadersFrameParam{StreamID: stream, BlockFragment: block.Bytes(), EndHeaders: true, EndStream: ends}))
}

// until reads frames until one of this kind is there for the stream.
func (f raw) until(t *testing.T, kind http2.FrameType, stream uint32) http2.Frame {
	t.Helper()
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("no frame %s of stream %d: %v", kind, stream, err)
		}
		if h := frame.Header(); h.Type == kind && h.StreamID == stream {
			return frame
		}
	}
}

func TestServer_windows(t *testing.T) {
	s := serveTLS(t, func(*limits.Limits) {})
	t.Run("a client that sends more than its window is cut off", func(t *testing.T) {
		f := s.http2(t)
		f.request(t, 1, "POST", "/v2/x/blobs/uploads/", "", false)
		var err error
		for i := 0; err == nil && i < 2*limits.Window/16384; i++ {
			err = f.WriteData(1, false, make([]byte, 16384))
		}
		for err == nil {
			_, err = f.ReadFrame()
		}
		var timeout net.Error
		if errors.As(err, &timeout) && timeout.Timeout() {
			t.Errorf("the connection ended with %v", err)
		}
	})
	t.Run("an upload with a login gets the whole window", func(t *testing.T) {
		f := s.http2(t)
		if v, _ := f.until(t, http2.FrameSettings, 0).(*http2.SettingsFrame).Value(http2.SettingInitialWindowSize); v != limits.Window {
			t.Errorf("the window of a stream is %d", v)
		}
		f.request(t, 1, "POST", "/v2/x/blobs/uploads/?digest=sha256:"+strings.Repeat("0", 64), "push", false)
		if got := f.until(t, http2.FrameWindowUpdate, 0).(*http2.WindowUpdateFrame).Increment; got != limits.Window-65535 {
			t.Errorf("the window grew by %d", got)
		}
	})
}

func TestServer_answersEnd(t *testing.T) {
	d := openDaemon(t, io.Discard)
	d.patience = patience{answer: time.Millisecond, refusal: time.Millisecond}
	s := serveDaemon(t, d, func(*limits.Limits) {})
	content := strings.Repeat("x", 4<<20) // more than the buffers on the way hold
	u, err := s.store.Uploads.New(t.Context(), "a")
	must(t, err)
	_, err = u.ReadFrom(strings.NewReader(content))
	must(t, err)
	_, err = u.Commit(t.Context(), digest.FromString(content))
	must(t, err)
	for name, tc := range map[string]struct{ method, path, user string }{
		"a refusal":                    {"GET", "/v2/", ""},
		"an answer to a login":         {"GET", "/v2/_catalog", "push"},
		"an error after a login":       {"GET", "/v2/a/manifests/absent", "push"},
		"an answer that needs none":    {"GET", "/health/instance", ""},
		"a blob":                       {"GET", "/v2/a/blobs/" + digest.FromString(content).String(), "push"},
		"a refusal of what has a body": {"POST", "/v2/x/blobs/uploads/", ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := s.http2(t)
			f.request(t, 1, tc.method, tc.path, tc.user, tc.method == "GET")
			f.until(t, http2.FrameRSTStream, 1)
		})
	}
}

// TestServer_unreadBodyHTTP2 answers a request whose body is still to come, to a client
// that takes the answer.
func TestServer_unreadBodyHTTP2(t *testing.T) {
	s := serveTLS(t, func(*limits.Limits) {})
	f := s.http2(t)
	f.request(t, 1, "POST", "/v2/x/blobs/uploads/", "", false)
	must(t, f.WriteWindowUpdate(1, 1<<20))
	f.until(t, http2.FrameHeaders, 1)
	if code := f.until(t, http2.FrameRSTStream, 1).(*http2.RSTStreamFrame).ErrCode; code != http2.ErrCodeNo {
		t.Errorf("reset with %s", code)
	}
}

// form begins a form, whose answer is taken.
func (f raw) form(t *testing.T, stream uint32, path string) {
	t.Helper()
	f.request(t, stream, "POST", path, "", false)
	must(t, f.WriteWindowUpdate(stream, 1<<20))
}

// answers reads until n answers are whole, and returns the status of each by its stream.
func (f raw) answers(t *testing.T, n int) map[uint32]string {
	t.Helper()
	all, ended := map[uint32]string{}, 0
	for ended < n {
		frame, err := f.ReadFrame()
		if err != nil {
			t.Fatalf("%d of %d answers: %v", ended, n, err)
		}
		if h, ok := frame.(*http2.HeadersFrame); ok {
			fields, err := f.decoder.DecodeFull(h.HeaderBlockFragment())
			must(t, err)
			all[h.StreamID] = fields[0].Value
		}
		if h := frame.Header(); (h.Type == http2.FrameHeaders || h.Type == http2.FrameData) && h.Flags.Has(http2.FlagDataEndStream) {
			ended++
		}
	}
	return all
}

// TestServer_loginForms begins many logins without a login.
func TestServer_loginForms(t *testing.T) {
	const formsEach = 4 // as in limits
	dial := func(t *testing.T, patience time.Duration) raw {
		d := openDaemon(t, io.Discard)
		d.patience.form = patience
		f := serveDaemon(t, d, func(*limits.Limits) {}).http2(t)
		must(t, f.conn.SetReadDeadline(time.Now().Add(time.Minute)))
		return f
	}
	for _, path := range []string{"/login", "/v2/auth"} {
		t.Run(path+" ends when it takes too long", func(t *testing.T) {
			f := dial(t, 100*time.Millisecond)
			for i := range uint32(formsEach) {
				f.form(t, 2*i+1, path)
			}
			f.answers(t, formsEach)
		})
		t.Run(path+" has few places, which come back", func(t *testing.T) {
			f := dial(t, time.Hour)
			for i := range uint32(formsEach + 1) {
				f.form(t, 2*i+1, path)
			}
			open := map[uint32]bool{1: true, 3: true, 5: true, 7: true, 9: true}
			var refusal string
			for stream, status := range f.answers(t, 1) { // no place for any one of them
				delete(open, stream)
				refusal = status
			}
			for range 2 {
				for stream := range open {
					must(t, f.WriteData(stream, true, []byte("grant_type=password&service=a&client_id=a&username=push&password=not-that-one")))
				}
				for stream, status := range f.answers(t, len(open)) {
					if status == refusal {
						t.Errorf("form %d, which has a place, has the answer of the one without: %s", stream, status)
					}
				}
				clear(open)
				for i := range uint32(formsEach) {
					stream := 2*(formsEach+1+i) + 1
					f.form(t, stream, path)
					open[stream] = true
				}
			}
		})
	}
}

// TestServer_refusals sends many requests without a login on connections that take no answers.
func TestServer_refusals(t *testing.T) {
	const refusalsEach = 8 // as in limits
	s := serveTLS(t, func(l *limits.Limits) { l.Refusals = refusalsEach })
	ask := func(f raw) {
		for i := range uint32(2 * refusalsEach) {
			f.request(t, 2*i+1, "GET", "/v2/", "", true)
		}
		for range refusalsEach { // the others wait for their client
			for {
				frame, err := f.ReadFrame()
				must(t, err)
				if frame.Header().Type == http2.FrameRSTStream {
					break
				}
			}
		}
	}
	ask(s.http2(t))
	f := s.http2(t) // has some in any case
	ask(f)
	f.request(t, 99, "GET", "/v2/_catalog", "push", true)
	f.until(t, http2.FrameHeaders, 99)
}

// deadlines is a ResponseWriter whose client takes everything at once.
type deadlines struct {
	http.ResponseWriter
	set    []time.Time
	pieces []int
}

func (w *deadlines) Header() http.Header { return http.Header{} }
func (w *deadlines) WriteHeader(int)     {}
func (w *deadlines) SetWriteDeadline(d time.Time) error {
	w.set = append(w.set, d)
	return nil
}
func (w *deadlines) Write(p []byte) (int, error) {
	w.pieces = append(w.pieces, len(p))
	return len(p), nil
}

// TestObserved_progressMovesTheDeadline writes more than a thin line carries before
// the first deadline.
func TestObserved_progressMovesTheDeadline(t *testing.T) {
	w := &deadlines{}
	o := &observed{ResponseWriter: w, request: &http.Request{ProtoMajor: 1, Body: http.NoBody}, conn: &limits.Conn{}, patience: defaultPatience, admitted: true}
	_, err := o.Write(make([]byte, 3*answerPiece+1))
	must(t, err)
	if len(w.pieces) != 4 || len(w.set) < 4 || o.sent != 3*answerPiece+1 {
		t.Errorf("written in pieces %v with %d deadlines", w.pieces, len(w.set))
	}
	_, err = o.ReadFrom(io.LimitReader(zeros{}, 10*answerPiece))
	must(t, err)
	if least := defaultPatience.answer + answerPiece*time.Second/slowestClient; time.Until(w.set[len(w.set)-2]) > least {
		t.Errorf("a piece has until %s", w.set[len(w.set)-2])
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestServer_connections(t *testing.T) {
	for _, proto := range []string{"http/1.1", "h2"} {
		t.Run(proto, func(t *testing.T) {
			s := serveTLS(t, func(l *limits.Limits) { l.Connections = 8 })
			idle := s.dial(t, proto)
			for range 16 {
				s.dial(t, proto)
			}
			// The oldest had to go.
			if _, err := io.Copy(io.Discard, idle); errors.Is(err, context.DeadlineExceeded) {
				t.Error(err)
			}
			c := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "registry.test"}, ForceAttemptHTTP2: proto == "h2"}}
			defer c.CloseIdleConnections()
			resp, err := c.Get("https://" + s.addr + "/health/instance")
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("health is %d", resp.StatusCode)
			}
		})
	}
}
