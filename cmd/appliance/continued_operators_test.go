package main_test

import (
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/cmd/sample-upstream/sample"
)

// stopped is an upstream of which one request of five fails, and which sends no blob after so many
// bytes of them, until it is let go on.
type stopped struct {
	faults  http.Handler
	sent    atomic.Int64 // bytes of blobs
	most    atomic.Int64
	waiting atomic.Int64 // requests

	mu    sync.Mutex      // guards what follows
	whole map[string]bool // blobs of images whose end was sent
	again int64           // bytes of answers that came to the end of a blob after that
}

// ended notes that an answer came to the end of a blob: one that the upstream breaks off does not.
func (s *stopped) ended(blob string, bytes int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.whole[blob] {
		s.again += bytes
	}
	s.whole[blob] = true
}

// begin forgets which blobs were sent.
func (s *stopped) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.whole, s.again = map[string]bool{}, 0
	s.sent.Store(0)
}

func newStopped(t *testing.T) (s *stopped, host string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	content, err := sample.New(server.Listener.Addr().String())
	must(t, err)
	s = &stopped{faults: sample.Failing(content.Handler(), 20)}
	s.most.Store(1 << 40)
	server.Config.Handler = s
	server.Start()
	t.Cleanup(server.Close)
	return s, content.Host()
}

func (s *stopped) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.Contains(r.URL.Path, "/blobs/") {
		s.waiting.Add(1)
		for s.sent.Load() >= s.most.Load() {
			select {
			case <-time.After(5 * time.Millisecond):
			case <-r.Context().Done():
				s.waiting.Add(-1)
				return
			}
		}
		s.waiting.Add(-1)
		a := &adding{w, &s.sent, 0}
		// Each run reads the layers of a catalog until that is made anew.
		of := r.Method == http.MethodGet && !strings.Contains(r.URL.Path, sample.CatalogRepository)
		defer func() {
			if n, err := strconv.ParseInt(w.Header().Get("Content-Length"), 10, 64); err == nil && n == a.n && of {
				s.ended(r.URL.Path, n)
			}
		}()
		w = a
	}
	s.faults.ServeHTTP(w, r)
}

type adding struct {
	http.ResponseWriter
	sum *atomic.Int64
	n   int64 // of this answer
}

func (w *adding) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.sum.Add(int64(n))
	w.n += int64(n)
	return n, err
}

func (w *adding) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// kill kills a program when the upstream sends no more, and what it has sent has had time to arrive.
func (s *stopped) kill(t *testing.T, c *exec.Cmd, after int64) {
	t.Helper()
	s.most.Store(after)
	must(t, c.Start())
	quiet, before := time.Now(), int64(-1)
	for end := time.Now().Add(patience); s.waiting.Load() == 0 || time.Since(quiet) < time.Second; time.Sleep(10 * time.Millisecond) {
		if now := s.sent.Load(); now != before {
			quiet, before = time.Now(), now
		}
		if time.Now().After(end) {
			t.Fatalf("the mirror does not get to %d bytes: %d", after, before)
		}
	}
	must(t, c.Process.Kill())
	_ = c.Wait()
	s.most.Store(1 << 40)
}

// TestMirror_operatorsKilled: of an upstream that fails one request of five, a mirror of operators
// that was killed twice completes, does not fetch again what has come of the images, and has the
// catalog of a run that was not interrupted. What a kill finds in a program's hands may be two blobs
// of the sample, a twentieth of all: TestMirror_withFaults has blobs that are large enough for 1 %.
func TestMirror_operatorsKilled(t *testing.T) {
	s := newSite(t)
	var upstream *stopped
	upstream, s.source = newStopped(t)
	upstream.begin()
	set := s.set(t, "set.yaml", "  operators:\n  - catalog: HOST/"+sample.CatalogRepository+":"+sample.CatalogTag+
		"\n    packages: [{name: sample-database, minVersion: 1.0.0}, {name: sample-logging, minVersion: 5.8.0}]\n")
	run := func(args ...string) *exec.Cmd {
		c := s.client(append([]string{"mirror", "-c", set, "--src-tls-verify=false", "--retry-times", "9", "--dest-creds", "admin:" + faultPassword}, args...)...)
		c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		c.WaitDelay = patience
		return c
	}
	completes := func(t *testing.T, c *exec.Cmd) {
		t.Helper()
		if code, stdout, stderr := outcome(t, c); code != 0 {
			t.Fatalf("exit code %d\n%s%s", code, stdout, stderr)
		}
	}
	home := func(dir string) string { return "file://" + filepath.Join(s.dir, dir) }
	completes(t, run(home("never")))
	whole := upstream.sent.Load()
	killed := func(t *testing.T, args ...string) {
		t.Helper()
		upstream.begin()
		upstream.kill(t, run(args...), whole/3)
		upstream.kill(t, run(args...), 2*whole/3)
		completes(t, run(args...))
		upstream.mu.Lock()
		defer upstream.mu.Unlock()
		if len(upstream.whole) < 20 || upstream.again > whole/20 {
			t.Errorf("of %d blobs %d bytes of %d were sent again", len(upstream.whole), upstream.again, whole)
		}
	}
	// First, while the appliance has no blob that another run has brought.
	t.Run("into an appliance", func(t *testing.T) {
		killed(t, "docker://"+s.address+"/direct", "--workspace", home("direct"))
	})
	t.Run("into an archive", func(t *testing.T) { killed(t, home("carried")) })
	t.Run("the same catalog", func(t *testing.T) {
		digests := map[string]string{}
		for _, from := range []string{"direct", "carried", "never"} {
			if from != "direct" {
				completes(t, run("--from", home(from), "docker://"+s.address+"/"+from))
			}
			a, err := s.demand(t.Context(), http.StatusOK, http.MethodHead, "/v2/"+from+"/"+sample.CatalogRepository+"/manifests/"+sample.CatalogTag, nil)
			must(t, err)
			digests[from] = a.header.Get("Docker-Content-Digest")
		}
		if want := digests["never"]; want == "" || digests["direct"] != want || digests["carried"] != want {
			t.Errorf("the catalogs are %v", digests)
		}
	})
}
