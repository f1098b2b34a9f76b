// Package s3test starts a real server of S3 for tests, with a proxy before it that forces failures.
//
// Start uses the program that APPLIANCE_S3_SERVER names: that of testdata/s3server, which `make s3` builds, or that of
// testdata/minioserver (`make minio`).
package s3test

import (
	"bufio"
	"context"
	"encoding/pem"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/s3url"
)

// Bucket is the bucket that Start makes.
const Bucket = "images"

// Action is what the proxy does with a request.
type Action int

// The actions.
const (
	Pass     Action = iota
	SlowDown        // answers 503 SlowDown
	Unable          // answers 501 NotImplemented
	Conflict        // answers 409 ConditionalRequestConflict
	Cut             // closes the connection without an answer
	Lose            // has the server do it, and closes the connection
	Half            // closes the connection after half of the answer's body
	Head            // closes it before the body
	Hang            // answers nothing until the client gives up
	Stall           // answers with half of the body, and then nothing until the client gives up
	Stale           // answers as the server did the first time that this was asked with Stale
)

// Server is a running server.
type Server struct {
	Dir         string // of the objects of Bucket
	Credentials string // file of AWS
	CA          string // file of what signed the server's certificate; "" without TLS

	front *httptest.Server

	mu        sync.Mutex
	fault     func(*http.Request) Action
	lifecycle string
	stale     map[string]*httptest.ResponseRecorder // by query
}

// Start starts a server that ends with the test.
func Start(t testing.TB) *Server {
	t.Helper()
	return start(t, false)
}

// StartTLS is Start for a server whose address begins with https.
func StartTLS(t testing.TB) *Server {
	t.Helper()
	return start(t, true)
}

func start(t testing.TB, secure bool) *Server {
	t.Helper()
	program := os.Getenv("APPLIANCE_S3_SERVER")
	if program == "" {
		t.Fatal("APPLIANCE_S3_SERVER is empty: run `make s3`")
	}
	dir, err := os.MkdirTemp("", "s3test-")
	must(t, err)
	t.Cleanup(func() { must(t, os.RemoveAll(dir)) })
	s := &Server{Dir: filepath.Join(dir, "objects", Bucket), Credentials: filepath.Join(dir, "credentials")}
	must(t, os.MkdirAll(s.Dir, 0o700))
	must(t, os.Mkdir(filepath.Join(dir, "versions"), 0o700))
	must(t, os.WriteFile(s.Credentials, []byte("[default]\naws_access_key_id = test\naws_secret_access_key = testtesttest\n"), 0o600))
	socket := filepath.Join(dir, "socket")
	serve(t, program, filepath.Join(dir, "objects"), filepath.Join(dir, "versions"), socket)
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	back := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
		r.Out.Host = r.In.Host // which is signed
	}, Transport: &http.Transport{DialContext: dial, DisableKeepAlives: true}, ErrorLog: log.New(io.Discard, "", 0)}
	s.front = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.proxy(w, r, back) }))
	t.Cleanup(s.front.Close)
	if !secure {
		s.front.Start()
		return s
	}
	s.front.Config.ErrorLog = log.New(io.Discard, "", 0) // clients that are not to trust it
	s.front.StartTLS()
	s.CA = filepath.Join(dir, "ca.crt")
	must(t, os.WriteFile(s.CA, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.front.Certificate().Raw}), 0o600))
	return s
}

// serve starts the program. It ends when its input is closed.
func serve(t testing.TB, program string, args ...string) {
	t.Helper()
	server := exec.Command(program, args...)
	server.Env = []string{"AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=testtesttest", "HOME=" + filepath.Dir(args[0])}
	server.Stderr = os.Stderr
	input, err := server.StdinPipe()
	must(t, err)
	output, err := server.StdoutPipe()
	must(t, err)
	must(t, server.Start())
	t.Cleanup(func() {
		_ = input.Close()
		_ = server.Wait()
	})
	if !bufio.NewScanner(output).Scan() {
		t.Fatal("the server has not become ready")
	}
	for { // it is about to listen
		conn, err := net.Dial("unix", args[len(args)-1])
		if err == nil {
			must(t, conn.Close())
			return
		}
		must(t, retry.Sleep(t.Context(), 10*time.Millisecond))
	}
}

// Halt stops the server: no connection to it is accepted.
func (s *Server) Halt() { s.front.Close() }

// Begin starts a server that Halt has stopped, without TLS, at the same address.
func (s *Server) Begin(t testing.TB) {
	t.Helper()
	l, err := net.Listen("tcp", s.front.Listener.Addr().String())
	must(t, err)
	again := httptest.NewUnstartedServer(s.front.Config.Handler)
	must(t, again.Listener.Close())
	again.Listener = l
	again.Start()
	t.Cleanup(again.Close)
	s.front = again
}

func (s *Server) proxy(w http.ResponseWriter, r *http.Request, back http.Handler) {
	s.mu.Lock()
	fault, lifecycle := s.fault, s.lifecycle
	s.mu.Unlock()
	if lifecycle != "" && r.URL.Query().Has("lifecycle") {
		fmt.Fprint(w, lifecycle)
		return
	}
	action := Pass
	if fault != nil {
		action = fault(r)
	}
	switch action {
	case Pass:
		back.ServeHTTP(w, r)
	case SlowDown:
		w.WriteHeader(http.StatusServiceUnavailable)
		fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>Reduce your request rate.</Message></Error>`)
	case Unable:
		w.WriteHeader(http.StatusNotImplemented)
		fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>NotImplemented</Code><Message>A header is not implemented.</Message></Error>`)
	case Conflict:
		w.WriteHeader(http.StatusConflict)
		fmt.Fprint(w, `<?xml version="1.0"?><Error><Code>ConditionalRequestConflict</Code><Message>Another request is under way.</Message></Error>`)
	case Half, Head, Stall:
		whole := httptest.NewRecorder()
		back.ServeHTTP(whole, r)
		half := whole.Body.Bytes()[:whole.Body.Len()/2]
		if action == Head {
			half = nil
		}
		send(w, whole, half)
		_ = http.NewResponseController(w).Flush()
		if action == Stall {
			<-r.Context().Done()
		}
		panic(http.ErrAbortHandler)
	case Hang:
		_, _ = io.Copy(io.Discard, r.Body) // until then the end of the connection is not seen
		<-r.Context().Done()
	case Stale:
		answer := s.first(r, back)
		send(w, answer, answer.Body.Bytes())
	case Lose:
		back.ServeHTTP(httptest.NewRecorder(), r)
		panic(http.ErrAbortHandler)
	default:
		panic(http.ErrAbortHandler)
	}
}

// send sends an answer with a body.
func send(w http.ResponseWriter, answer *httptest.ResponseRecorder, body []byte) {
	maps.Copy(w.Header(), answer.Header())
	w.WriteHeader(answer.Code)
	_, _ = w.Write(body)
}

// first returns the answer to the first request with the same query.
func (s *Server) first(r *http.Request, back http.Handler) *httptest.ResponseRecorder {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stale == nil {
		s.stale = map[string]*httptest.ResponseRecorder{}
	}
	if s.stale[r.URL.RawQuery] == nil {
		s.stale[r.URL.RawQuery] = httptest.NewRecorder()
		back.ServeHTTP(s.stale[r.URL.RawQuery], r)
	}
	return s.stale[r.URL.RawQuery]
}

// IsList reports whether a request lists objects or uploads.
func IsList(r *http.Request) bool {
	return r.Method == http.MethodGet && (r.URL.Query().Has("list-type") || r.URL.Query().Has("uploads"))
}

// Fault has the proxy ask fault about each request. nil: all pass.
func (s *Server) Fault(fault func(*http.Request) Action) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fault = fault
}

// Lifecycle has the proxy answer with the rules of a document: the server has none.
func (s *Server) Lifecycle(document string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lifecycle = document
}

// Address returns the address of a storage below a prefix.
func (s *Server) Address(t testing.TB, prefix string) (text string, a s3url.Address) {
	t.Helper()
	text = "s3://" + Bucket + "/" + prefix + "?endpoint=" + s.front.URL
	a, err := s3url.Parse(text)
	must(t, err)
	return text, a
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
