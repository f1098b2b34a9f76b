package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// openDaemon opens a daemon that serves no client.
func openDaemon(t *testing.T, log io.Writer) *daemon {
	t.Helper()
	root := t.TempDir()
	cfg := config.Default(root)
	cfg.Hostname = "registry.test"
	cfg.Listen = "127.0.0.1:0"
	for _, dir := range []string{cfg.Storage, filepath.Dir(cfg.Database), filepath.Dir(cfg.TLS.Certificate), filepath.Dir(cfg.TLS.CA), cfg.TLS.State} {
		must(t, os.MkdirAll(dir, 0o700))
	}
	ca, err := tlsgen.CreateCA("test", time.Now())
	must(t, err)
	must(t, os.WriteFile(cfg.TLS.CA, ca.CertPEM(), 0o600))
	must(t, os.WriteFile(cfg.TLS.CAKey, ca.KeyPEM(), 0o600))
	d, err := open(context.Background(), cfg, Options{Log: slog.New(slog.NewTextHandler(log, nil))})
	must(t, err)
	t.Cleanup(func() { must(t, d.close()) })
	return d
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestObserve_panic(t *testing.T) {
	var log bytes.Buffer
	d := openDaemon(t, &log)
	serve := func(h http.HandlerFunc) *httptest.Server {
		s := httptest.NewServer(d.observe("", h))
		t.Cleanup(s.Close)
		return s
	}
	t.Run("before the answer is a 500, with the stack in the log", func(t *testing.T) {
		s := serve(func(http.ResponseWriter, *http.Request) { panic("broken handler") })
		resp, err := http.Get(s.URL + "/x")
		must(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		must(t, err)
		if resp.StatusCode != http.StatusInternalServerError || strings.Contains(string(body), "broken handler") {
			t.Errorf("answered %d %s", resp.StatusCode, body)
		}
		s.Close() // the log is written when the handler has ended
		if !strings.Contains(log.String(), "broken handler") || !strings.Contains(log.String(), "internal_test.go") {
			t.Errorf("logged %s", log.String())
		}
	})
	t.Run("within the answer breaks the connection", func(t *testing.T) {
		s := serve(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "half of it")
			w.(http.Flusher).Flush()
			panic("broken handler")
		})
		resp, err := http.Get(s.URL)
		must(t, err)
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("read %q as if it were whole", body)
		}
	})
}

func TestHealth_alive(t *testing.T) {
	d := openDaemon(t, io.Discard)
	servers, err := d.listen(t.Context())
	must(t, err)
	defer func() {
		for _, s := range servers {
			must(t, s.listener.Close())
		}
	}()
	if all := addresses(servers); len(all) != 2 || all[0] != "unix:"+d.cfg.ControlSocket || !strings.HasPrefix(all[1], "tcp:127.0.0.1:") {
		t.Errorf("listening on %v", all)
	}
	must(t, d.health.alive(t.Context()))
	t.Run("a disk that is away is not for a restart to mend", func(t *testing.T) {
		must(t, os.Rename(d.cfg.Storage, d.cfg.Storage+".away"))
		defer func() { must(t, os.Rename(d.cfg.Storage+".away", d.cfg.Storage)) }()
		if d.health.report(t.Context()).healthy() {
			t.Error("the health check does not notice")
		}
		must(t, d.health.alive(t.Context()))
	})
	t.Run("a control socket that is away is", func(t *testing.T) {
		must(t, os.Rename(d.cfg.ControlSocket, d.cfg.ControlSocket+"x"))
		defer func() { must(t, os.Rename(d.cfg.ControlSocket+"x", d.cfg.ControlSocket)) }()
		if err := d.health.alive(t.Context()); err == nil || !strings.Contains(err.Error(), "web_gunicorn") {
			t.Errorf("error is %v", err)
		}
	})
	t.Run("a draining daemon is let end", func(t *testing.T) {
		must(t, os.Rename(d.cfg.ControlSocket, d.cfg.ControlSocket+"x"))
		defer func() { must(t, os.Rename(d.cfg.ControlSocket+"x", d.cfg.ControlSocket)) }()
		d.quit()
		must(t, d.alive(t.Context()))
	})
}

// endless is a store whose garbage has no end.
type endless struct {
	*store.Garbage
	began chan struct{}
}

func (e endless) GarbageBlobs(ctx context.Context, _ time.Time, _ func(digest.Digest, int64) error) error {
	close(e.began)
	<-ctx.Done()
	return ctx.Err()
}

func TestDetach(t *testing.T) {
	d := openDaemon(t, io.Discard)
	garbage := endless{d.store.Garbage, make(chan struct{})}
	d.collector.store = garbage
	must(t, d.jobs.GC.Start(api.GCRequest{}))
	<-garbage.began
	if p := d.jobs.GC.Progress(); p == nil || p.Planned {
		t.Errorf("under way is %+v", p)
	}
	if _, err := d.jobs.GC.Run(t.Context(), api.GCRequest{}, nil); !errors.As(err, new(*jobs.BusyError)) {
		t.Errorf("a second collection gives %v", err)
	}
	d.quit()
	d.jobs.GC.Wait()
	if last := d.collector.last.Get(); d.jobs.GC.Progress() != nil || last == nil || last.Error == "" {
		t.Errorf("draining has left %+v, %+v", d.jobs.GC.Progress(), last)
	}
	again := jobs.OpenNote[api.GCResult](t.Context(), d.store, "gc.last", d.log)
	if last := again.Get(); last == nil || last.Error == "" {
		t.Errorf("after a restart the last is %+v", last)
	}
}

// TestCollect_progress follows a collection from its plan to its end.
func TestCollect_progress(t *testing.T) {
	d := openDaemon(t, io.Discard)
	const blobs = 3
	for i := range blobs {
		content := strings.Repeat("x", i+1)
		must(t, os.WriteFile(blobFile(t, d, content), []byte(content), 0o600)) // a file that no row names
	}
	var told []api.GCProgress
	none := api.Duration(0)
	result, err := d.jobs.GC.Run(t.Context(), api.GCRequest{GracePeriod: &none}, func(p api.GCProgress) { told = append(told, p) })
	must(t, err)
	want := gc.Result{Blobs: blobs, Bytes: 6}
	if first, last := told[0], told[len(told)-1]; first.Planned || first.Of.Blobs > 0 || !last.Planned || last.Of != want || last.Done != want || result.Result != want {
		t.Errorf("told %+v, result %+v", told, result)
	}
	planned := slices.IndexFunc(told, func(p api.GCProgress) bool { return p.Planned })
	if planned < blobs || told[planned].Of != want || told[planned].Done != (gc.Result{}) {
		t.Errorf("when it was planned, step %d, told %+v", planned, told)
	}
}

// blobFile is where a blob is, or would be.
func blobFile(t *testing.T, d *daemon, content string) string {
	t.Helper()
	hex := digest.FromString(content).Encoded()
	dir := filepath.Join(d.cfg.Storage, "sha256", hex[:2])
	must(t, os.MkdirAll(dir, 0o700))
	return filepath.Join(dir, hex)
}

func TestCutoff(t *testing.T) {
	now := time.Now()
	o := cutoff(now, 0)
	if now.Sub(o.Before) != 0 || now.Sub(o.UploadsBefore) != time.Hour || now.Sub(o.RunsBefore) != 24*time.Hour {
		t.Errorf("without a grace period: %+v", o)
	}
	o = cutoff(now, 48*time.Hour)
	if now.Sub(o.Before) != 48*time.Hour || now.Sub(o.UploadsBefore) != 48*time.Hour || now.Sub(o.RunsBefore) != 48*time.Hour {
		t.Errorf("with two days: %+v", o)
	}
}

func TestHealth_damaged(t *testing.T) {
	damaged := fmt.Errorf("read: %w", &store.CorruptError{Path: "db", Err: errors.New("malformed")})
	h := &health{log: slog.New(slog.DiscardHandler), checks: []check{{service: "database", run: func(context.Context) error { return damaged }, vital: true}}}
	if h.report(t.Context()).healthy() {
		t.Error("a damaged database is healthy")
	}
	if err := h.alive(t.Context()); err != nil {
		t.Errorf("the watchdog would restart the daemon: %v", err)
	}
}

// TestDrain cuts off an upload that does not end. Its handler has ended when drain returns, so that
// the store is not closed under it.
func TestDrain(t *testing.T) {
	d := openDaemon(t, io.Discard)
	reading, written := make(chan struct{}), false
	h := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, err := io.ReadFull(r.Body, make([]byte, 5))
		close(reading)
		if err == nil {
			_, err = io.Copy(io.Discard, r.Body) // until the connection is cut
		}
		if err == nil {
			t.Error("the upload came to its end")
		}
		if err := d.store.SetNote(context.WithoutCancel(r.Context()), "upload", "kept"); err != nil {
			t.Error(err)
		}
		written = true
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := newServer(h, d.log, l)
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	body, upload := io.Pipe()
	answered := make(chan error, 1)
	go func() {
		resp, err := http.Post("http://"+l.Addr().String(), "application/octet-stream", body)
		if err == nil {
			resp.Body.Close()
		}
		answered <- err
	}()
	_, err = io.WriteString(upload, "begun")
	must(t, err)
	<-reading
	patience, over := context.WithCancel(t.Context())
	over()
	if err := s.drain(patience); err == nil || errors.Is(err, errStillServing) {
		t.Errorf("drain says %v", err)
	}
	if !written {
		t.Error("the handler goes on")
	}
	must(t, upload.Close()) // or the client waits for more to send
	if err := <-answered; err == nil {
		t.Error("the client was answered")
	}
	must(t, <-served)
}

// TestServer_unreadBody announces a body that no handler reads, and does not send it.
func TestServer_unreadBody(t *testing.T) {
	d := openDaemon(t, io.Discard)
	for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
		t.Run(method, func(t *testing.T) {
			l, err := net.Listen("tcp", "127.0.0.1:0")
			must(t, err)
			returned := make(chan struct{})
			s := newServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.Method == http.MethodGet {
					_, _ = w.Write(make([]byte, 10_000)) // more than net/http keeps until the handler returns
				}
				close(returned)
			}), d.log, hurriedListener{l, returned})
			served := make(chan error, 1)
			go func() { served <- s.serve() }()
			c, err := net.Dial("tcp", l.Addr().String())
			must(t, err)
			defer c.Close()
			_, err = fmt.Fprintf(c, "%s / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n", method)
			must(t, err)
			if answer, err := io.ReadAll(c); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 200 ") {
				t.Errorf("%.40q, %v", answer, err)
			}
			must(t, s.drain(t.Context()))
			must(t, <-served)
		})
	}
}

// hurriedListener lets the read deadlines pass at once that are set after a handler has returned.
type hurriedListener struct {
	net.Listener
	returned chan struct{}
}

func (l hurriedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return hurried{c, l.returned}, err
}

type hurried struct {
	net.Conn
	returned chan struct{}
}

func (c hurried) SetReadDeadline(t time.Time) error {
	select {
	case <-c.returned:
		if !t.IsZero() {
			t = time.Unix(1, 0)
		}
	default:
	}
	return c.Conn.SetReadDeadline(t)
}

// TestDrain_upload cuts a push off in the middle of a blob, and goes on where it was.
func TestDrain_upload(t *testing.T) {
	var log bytes.Buffer
	d := openDaemon(t, &log)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	s := newServer(d.api, d.log, l)
	served := make(chan error, 1)
	go func() { served <- s.serve() }()
	resp, err := http.Post("http://"+l.Addr().String()+"/v2/a/blobs/uploads/", "", nil)
	must(t, err)
	must(t, resp.Body.Close())
	location, err := resp.Location()
	must(t, err)
	body, upload := io.Pipe()
	patch, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, location.String(), body)
	must(t, err)
	go func() { _, _ = http.DefaultClient.Do(patch) }() // whose answer nobody will get
	content := make([]byte, 4<<20)
	_, err = upload.Write(content)
	must(t, err)
	file := filepath.Join(d.cfg.Storage, "uploads", path.Base(location.Path))
	for received := int64(0); received == 0; { // until the test's time is over
		info, err := os.Stat(file)
		if errors.Is(err, os.ErrNotExist) { // so little has come that it is in memory
			continue
		}
		must(t, err)
		received = info.Size()
	}
	patience, over := context.WithCancel(t.Context())
	over()
	if err := s.drain(patience); err == nil || errors.Is(err, errStillServing) {
		t.Errorf("drain says %v", err)
	}
	must(t, upload.Close())
	must(t, <-served)
	must(t, d.close())
	again, err := open(context.Background(), d.cfg, d.given)
	if err == nil {
		defer func() { must(t, again.close()) }()
	}
	must(t, err)
	w := httptest.NewRecorder()
	again.api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, location.RequestURI(), nil))
	_, end, _ := strings.Cut(w.Header().Get("Range"), "-")
	last, err := strconv.Atoi(end)
	if w.Code != http.StatusNoContent || err != nil || last == 0 || last >= len(content) {
		t.Fatalf("the upload is answered %d, %v %s", w.Code, w.Header(), w.Body)
	}
	rest := w.Header().Get("Location") + "&digest=" + digest.FromBytes(content).String()
	w = httptest.NewRecorder()
	again.api.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodPut, rest, bytes.NewReader(content[last+1:])))
	if w.Code != http.StatusCreated {
		t.Errorf("the rest is answered %d, %s", w.Code, w.Body)
	}
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("the log has %s", &log)
	}
}

// TestEndAfter leaves a store alone that is still written to.
func TestEndAfter(t *testing.T) {
	d := openDaemon(t, io.Discard)
	if err := d.endAfter(fmt.Errorf("drain: %w", errStillServing)); !errors.Is(err, errStillServing) {
		t.Errorf("error is %v", err)
	}
	must(t, d.store.SetNote(t.Context(), "still", "open"))
	must(t, d.endAfter(nil))
	if err := d.store.SetNote(t.Context(), "still", "open"); err == nil {
		t.Error("the store is open")
	}
}

// TestScrub_resumed stops a scrub in its second blob. What it has read counts when it goes
// on, after a restart too.
func TestScrub_resumed(t *testing.T) {
	d := openDaemon(t, io.Discard)
	var bytes int64
	const blobs = 5
	for i := range blobs {
		content := strings.Repeat("x", i+1)
		u, err := d.store.Uploads.New(t.Context(), "a")
		must(t, err)
		_, err = u.ReadFrom(strings.NewReader(content))
		must(t, err)
		_, err = u.Commit(t.Context(), digest.FromString(content))
		must(t, err)
		bytes += int64(len(content))
	}
	ctx, cancel := context.WithCancel(t.Context())
	told := 0
	_, err := d.jobs.Scrub.Run(ctx, api.ScrubRequest{}, func(s api.ScrubState) {
		if s.Blobs == 1 {
			if told++; told == 2 { // it is in the middle of the second
				cancel()
			}
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	d.openJobs(t.Context())
	stopped := d.scrubber.state(t.Context())
	if stopped == nil || stopped.Running || stopped.Blobs != 1 || stopped.Of != (api.ScrubSize{Blobs: blobs, Bytes: bytes}) {
		t.Fatalf("stopped at %+v", stopped)
	}
	if _, err := d.jobs.Scrub.Run(t.Context(), api.ScrubRequest{}, func(s api.ScrubState) {
		if !s.Running || s.Blobs < 1 {
			t.Errorf("it goes on at %+v", s)
		}
	}); err != nil {
		t.Error(err)
	}
	d.openJobs(t.Context())
	if s := d.scrubber.complete.Get(); d.scrubber.state(t.Context()) != nil || s == nil || s.Blobs != blobs || s.Bytes != bytes || !s.Began.Equal(stopped.Began) {
		t.Errorf("in the end there is %+v, %+v", d.scrubber.state(t.Context()), s)
	}
}

func TestCounts(t *testing.T) {
	now, counted := time.Now(), int64(0)
	c := counts{now: func() time.Time { return now }}
	for _, step := range []struct {
		later, took time.Duration
		want        int64
	}{
		{0, 0, 1}, {0, 0, 2}, // what is quick is done each time
		{0, time.Second, 3}, {30 * time.Second, 0, 3}, // what is not is done for all who ask
		{30 * time.Second, 0, 4}, // for a while
	} {
		now = now.Add(step.later)
		n, err := c.get(t.Context(), func(context.Context) (store.Stats, error) {
			counted++
			now = now.Add(step.took)
			return store.Stats{Blobs: counted}, nil
		})
		if err != nil || n.Blobs != step.want {
			t.Errorf("got %+v, %v, want %d", n, err, step.want)
		}
	}
}

// silent is the source of a registry that does not answer.
type silent struct{ catalog.Source }

func (silent) Manifest(ctx context.Context, _ string) (ocispec.Descriptor, []byte, error) {
	<-ctx.Done()
	return ocispec.Descriptor{}, nil, ctx.Err()
}

func TestResolved_silent(t *testing.T) {
	if _, err := resolved(t.Context(), silent{}, "v1", time.Millisecond); !errors.Is(err, errNoAnswer) {
		t.Errorf("a registry that does not answer: %v", err)
	}
	ctx, end := context.WithCancelCause(t.Context())
	end(errOffline)
	if _, err := resolved(ctx, silent{}, "v1", time.Hour); !errors.Is(err, errOffline) {
		t.Errorf("while the registry is offline: %v", err)
	}
}
