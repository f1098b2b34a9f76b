package pull

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	churnBlobs   = 24
	churnClients = 10
	churnSteps   = 40 // of each client
	churnLast    = 4  // blobs that only the clients of the end ask for
)

// A churn is clients that come, leave, seek and ask for ranges, while the upstream breaks off, routes
// are reloaded and the link is cut.
type churn struct {
	*fixture
	source   *single
	faults   atomic.Bool
	contents map[digest.Digest][]byte
	blobs    []digest.Digest
	whole    atomic.Int32 // clients that got all that they asked for
	failed   atomic.Int32
}

var errCut = errors.New("the link is cut")

// It runs with -race in CI (make race).
func TestPuller_churn(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(-1)) // which would close files that are lost
	goroutines, files := runtime.NumGoroutine(), openFiles(t)
	if !t.Run("", churns) {
		return
	}
	for end := time.Now().Add(10 * time.Second); runtime.NumGoroutine() > goroutines || openFiles(t) > files; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			stacks := make([]byte, 1<<20)
			t.Fatalf("%d goroutines and %d files are left, there were %d and %d\n%s", runtime.NumGoroutine(), openFiles(t), goroutines, files,
				stacks[:runtime.Stack(stacks, true)])
		}
	}
}

// openFiles counts files and sockets, without those that the runtime opens once.
func openFiles(t *testing.T) (n int) {
	t.Helper()
	all, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range all {
		if to, err := os.Readlink(file); err == nil && !strings.HasPrefix(to, "anon_inode:") {
			n++
		}
	}
	return n
}

func churns(t *testing.T) {
	c := newChurn(t)
	disturbed, end := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(disturbed)
		c.disturb(end)
	}()
	c.run(churnSteps, func(step int) digest.Digest { return c.blobs[step*(churnBlobs-churnLast)/churnSteps] })
	close(end)
	<-disturbed
	c.faults.Store(false)
	for _, d := range c.blobs[:churnBlobs-churnLast] {
		c.settles(d)
	}
	go func() {
		time.Sleep(5 * time.Millisecond)
		c.Puller.Close()
	}()
	c.run(churnLast, func(step int) digest.Digest { return c.blobs[churnBlobs-1-step] })
	if err := c.Puller.Close(); err != nil {
		t.Error(err)
	}
	if n := len(c.downloads.byKey) + len(c.calls.byKey) + len(c.source.live); n != 0 {
		t.Errorf("%d requests go on after the end", n)
	}
	c.consistent()
	t.Logf("%d clients got what they asked for, %d failed", c.whole.Load(), c.failed.Load())
	if c.whole.Load() == 0 || c.failed.Load() == 0 {
		t.Errorf("%d clients got what they asked for, and %d failed: it tests nothing", c.whole.Load(), c.failed.Load())
	}
}

func newChurn(t *testing.T) *churn {
	c := &churn{fixture: newFixture(t), contents: map[digest.Digest][]byte{}}
	c.source = &single{Source: c.client, t: t, live: map[string]context.Context{}}
	c.open(c.source, func(o *Options) { o.Concurrency = 3 })
	c.downloads.linger = 2 * time.Millisecond
	for n := range churnBlobs {
		content := make([]byte, 200_000+n%3*600_000) // parts of the largest are kept
		_, _ = rand.NewChaCha8([32]byte{3, byte(n)}).Read(content)
		tag := fmt.Sprint("churn", n)
		c.pushManifest(tag, content)
		if _, err := c.Manifest(t.Context(), here, tag); err != nil {
			t.Fatal(err)
		}
		d := digest.FromBytes(content)
		c.blobs, c.contents[d] = append(c.blobs, d), content
	}
	c.faults.Store(true)
	c.misbehave(c.serve)
	return c
}

// serve is an upstream that sends slowly, and breaks off.
func (c *churn) serve(w http.ResponseWriter, r *http.Request) bool {
	content, ok := c.contents[digest.Digest(path.Base(r.URL.Path))]
	if !ok || !strings.Contains(r.URL.Path, "/blobs/") {
		return false
	}
	allowed := len(content)
	if c.faults.Load() && r.Method == http.MethodGet {
		switch rand.IntN(6) {
		case 0:
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		case 1, 2:
			allowed = rand.IntN(allowed)
		}
	}
	http.ServeContent(&breaking{ResponseWriter: w, left: allowed}, r, "", time.Time{}, bytes.NewReader(content))
	return true
}

// breaking is an answer that is sent slowly, and breaks off.
type breaking struct {
	http.ResponseWriter
	left int
}

func (w *breaking) Write(p []byte) (int, error) {
	if len(p) > w.left {
		_, _ = w.ResponseWriter.Write(p[:w.left])
		panic(http.ErrAbortHandler)
	}
	w.left -= len(p)
	time.Sleep(50 * time.Microsecond)
	return w.ResponseWriter.Write(p)
}

// single is a source that reports a second request for a blob while the first goes on. One that has
// been ended does not count: the upstream may see it a little longer.
type single struct {
	Source
	t    *testing.T
	mu   sync.Mutex
	live map[string]context.Context
}

func (s *single) BlobFrom(ctx context.Context, repo string, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	key := repo + "@" + d.String()
	s.mu.Lock()
	if other, ok := s.live[key]; ok && other.Err() == nil {
		s.t.Errorf("%s is fetched twice at a time", key)
	}
	s.live[key] = ctx
	s.mu.Unlock()
	ended := func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.live[key] == ctx {
			delete(s.live, key)
		}
	}
	body, size, err := s.Source.BlobFrom(ctx, repo, d, offset)
	if err != nil {
		ended()
		return nil, 0, err
	}
	return &endingBody{body, ended}, size, nil
}

type endingBody struct {
	io.ReadCloser
	ended func()
}

func (b *endingBody) Close() error {
	defer b.ended()
	return b.ReadCloser.Close()
}

// disturb reloads routes and cuts the link until end is closed.
func (c *churn) disturb(end <-chan struct{}) {
	for n := 0; ; n++ {
		select {
		case <-end:
			c.Hold(nil)
			return
		case <-time.After(4 * time.Millisecond):
		}
		switch n % 12 {
		case 2, 6, 10:
			c.SetRoutes([]Route{{Prefix: "hub", Source: c.source, TTL: time.Minute, Concurrency: 1 + n%4}})
		case 4:
			c.Hold(errCut)
		case 5:
			c.Hold(nil)
		}
	}
}

// run runs clients, each of which asks for the blobs that of returns for its steps.
func (c *churn) run(steps int, of func(step int) digest.Digest) {
	var all sync.WaitGroup
	for n := range churnClients {
		all.Go(func() {
			for step := range steps {
				d := of(step)
				err := c.visit(c.t.Context(), d)
				switch {
				case err == nil:
					c.whole.Add(1)
				case errors.Is(err, errWrong):
					c.t.Errorf("step %d of client %d: %v", step, n, err)
				default:
					c.failed.Add(1)
				}
			}
		})
	}
	all.Wait()
}

var errWrong = errors.New("wrong bytes")

// visit is what one client does with a blob. errWrong if it got something else.
func (c *churn) visit(ctx context.Context, d digest.Digest) error {
	content := c.contents[d]
	from := rand.IntN(len(content))
	length := 1 + rand.IntN(len(content)-from)
	kind := rand.IntN(5)
	if kind == 0 {
		size, err := c.Stat(ctx, here, d)
		return same(err, size == int64(len(content)))
	}
	if kind == 1 { // leaves when it has had enough
		limited, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(3_000))*time.Microsecond)
		defer cancel()
		ctx = limited
	}
	rc, size, err := c.Blob(ctx, here, d)
	if err != nil {
		return err
	}
	defer rc.Close()
	if size != int64(len(content)) {
		return fmt.Errorf("%w: the size is %d", errWrong, size)
	}
	switch kind {
	case 2: // leaves after the beginning
		_, err := io.CopyN(&checking{content}, rc, int64(from))
		return err
	case 3:
		if _, err := rc.Seek(int64(from), io.SeekStart); err != nil {
			return err
		}
		_, err := io.CopyN(&checking{content[from:]}, rc, int64(length))
		return err
	case 4:
		return ranged(rc, from, content[from:from+length])
	}
	got := &checking{left: content}
	_, err = io.Copy(got, rc)
	if err != nil && len(got.left) == 0 {
		return fmt.Errorf("%w: all bytes came before %w", errWrong, err)
	}
	return same(err, len(got.left) == 0)
}

// checking compares what is written to it.
type checking struct{ left []byte }

func (c *checking) Write(p []byte) (int, error) {
	rest, ok := bytes.CutPrefix(c.left, p)
	if !ok {
		return 0, errWrong
	}
	c.left = rest
	return len(p), nil
}

// ranged asks for a range as a client does over HTTP.
func ranged(rc io.ReadSeeker, from int, want []byte) error {
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	r.Header.Set("Range", fmt.Sprintf("bytes=%d-%d", from, from+len(want)-1))
	w := httptest.NewRecorder()
	w.Body.Grow(len(want))
	content := &remembering{ReadSeeker: rc}
	http.ServeContent(w, r, "blob", time.Time{}, content)
	if content.err != nil {
		return content.err
	}
	return same(nil, w.Code == http.StatusPartialContent && bytes.Equal(w.Body.Bytes(), want))
}

// remembering keeps the error that http.ServeContent drops.
type remembering struct {
	io.ReadSeeker
	err error
}

func (r *remembering) Read(p []byte) (int, error) {
	n, err := r.ReadSeeker.Read(p)
	if err != nil && err != io.EOF {
		r.err = err
	}
	return n, err
}

func same(err error, equal bool) error {
	if err == nil && !equal {
		return errWrong
	}
	return err
}

// settles expects that a blob can be pulled once everything works again. A download that the last
// cut has ended may have to end first.
func (c *churn) settles(d digest.Digest) {
	c.t.Helper()
	var err error
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		var got []byte
		if got, err = c.pull(d); err == nil {
			if !bytes.Equal(got, c.contents[d]) {
				c.t.Errorf("%s: %d bytes that are others", d, len(got))
			}
			return
		}
	}
	c.t.Errorf("%s: %v", d, err)
}

// consistent expects a store whose content is what its rows say, and every part to be of its blob.
func (c *churn) consistent() {
	c.t.Helper()
	report, err := c.store.Integrity().Verify(c.t.Context(), store.VerifyOptions{Content: true})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, p := range report.Problems {
		c.t.Errorf("verify: %s", p)
	}
	for d, content := range c.contents {
		b, err := c.store.Blobs.Open(c.t.Context(), here, d)
		if errors.Is(err, store.ErrNotFound) {
			continue
		}
		if err != nil {
			c.t.Fatal(err)
		}
		if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, content) {
			c.t.Errorf("%s: %d bytes are stored, %v", d, len(got), err)
		}
		b.Close()
	}
}
