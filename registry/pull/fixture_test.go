package pull

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/store"
	"github.com/mirror-appliance/appliance/registry/store/storetest"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

const (
	here  = "hub/library/alpine" // local name of the repository
	there = "library/alpine"     // its name at the upstream
)

// A fixture is a Puller over a real store and a real upstream registry with faults.
type fixture struct {
	*Puller
	t      *testing.T
	client *upstream.Client
	server *httptest.Server
	real   http.Handler
	log    *syncBuffer
	place  storetest.Place

	inFiles bool // whatever the environment names

	layer    []byte
	blob     digest.Digest
	body     []byte
	manifest digest.Digest // tagged v1 upstream

	mu    sync.Mutex
	clock time.Time
	seen  map[string]int
	fault func(w http.ResponseWriter, r *http.Request) bool // true: answered
}

func newFixture(t *testing.T, changes ...func(*Options)) *fixture {
	t.Helper()
	f := &fixture{
		t:     t,
		real:  registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		log:   &syncBuffer{},
		layer: make([]byte, 1<<20),
		clock: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
		seen:  map[string]int{},
	}
	_, _ = rand.NewChaCha8([32]byte{2}).Read(f.layer)
	f.blob = f.pushBlob(f.layer)
	f.body, f.manifest = f.pushManifest("v1", f.layer)
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	f.sleeping(context.Context.Err, changes...)
	return f
}

// newFileFixture is newFixture with blobs in files, which have what arrived of a download when it broke off.
func newFileFixture(t *testing.T) *fixture {
	t.Helper()
	f := newFixture(t)
	f.inFiles = true
	f.sleeping(context.Context.Err)
	return f
}

// sleeping puts a Puller over a fresh store, whose upstream client waits by sleep.
func (f *fixture) sleeping(sleep func(context.Context) error, changes ...func(*Options)) {
	f.t.Helper()
	var err error
	f.client, err = upstream.New(upstream.Options{
		Registry: f.server.Listener.Addr().String(), PlainHTTP: true, Retries: 2, Serving: true, Idle: Idle,
		Sleep: func(ctx context.Context, _ time.Duration) error { return sleep(ctx) },
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(f.client.Close)
	f.open(f.client, changes...)
}

// open puts a Puller over a fresh store.
func (f *fixture) open(source Source, changes ...func(*Options)) {
	f.t.Helper()
	dir := f.t.TempDir()
	if f.inFiles {
		f.place = storetest.Files(dir)
	} else {
		f.place = storetest.New(f.t, dir)
	}
	s, err := store.Open(f.t.Context(), f.place.Options)
	if err != nil {
		f.t.Fatal(err)
	}
	f.t.Cleanup(func() { _ = s.Close() })
	o := Options{Now: f.now, Log: slog.New(slog.NewTextHandler(f.log, nil))}
	for _, change := range changes {
		change(&o)
	}
	f.Puller = New(s, []Route{{Prefix: "hub", Source: source, TTL: time.Minute}}, o)
	f.t.Cleanup(func() { _ = f.Puller.Close() })
}

func (f *fixture) now() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.clock
}

func (f *fixture) pass(d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock = f.clock.Add(d)
}

func (f *fixture) misbehave(fault func(w http.ResponseWriter, r *http.Request) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = fault
}

func (f *fixture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	f.seen[r.Method+" "+strings.TrimPrefix(r.URL.Path, "/v2/"+there+"/")]++
	fault := f.fault
	f.mu.Unlock()
	if fault != nil && fault(w, r) {
		return
	}
	f.real.ServeHTTP(w, r)
}

// wait delays a request until it is released or abandoned, so that a failing test ends.
func wait(r *http.Request, release <-chan struct{}) {
	select {
	case <-release:
	case <-r.Context().Done():
	}
}

// asked returns how often the upstream got a request such as "GET manifests/v1".
func (f *fixture) asked(request string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.seen[request]
}

func (f *fixture) total() (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, count := range f.seen {
		n += count
	}
	return n
}

func (f *fixture) push(method, path, mediaType string, content []byte) {
	f.t.Helper()
	r := httptest.NewRequest(method, "/v2/"+there+"/"+path, bytes.NewReader(content))
	r.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	f.real.ServeHTTP(w, r)
	if w.Code != http.StatusCreated {
		f.t.Fatalf("push %s: %d %s", path, w.Code, w.Body)
	}
}

func (f *fixture) pushBlob(content []byte) digest.Digest {
	f.t.Helper()
	d := digest.FromBytes(content)
	f.push(http.MethodPost, "blobs/uploads/?digest="+d.String(), "", content)
	return d
}

// pushManifest pushes an image of one layer to the upstream.
func (f *fixture) pushManifest(tag string, layer []byte) ([]byte, digest.Digest) {
	f.t.Helper()
	body := fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, f.pushBlob([]byte("{}")), f.pushBlob(layer), len(layer))
	f.push(http.MethodPut, "manifests/"+tag, ocispec.MediaTypeImageManifest, body)
	return body, digest.FromBytes(body)
}

// pull reads a blob through the Puller.
func (f *fixture) pull(d digest.Digest) ([]byte, error) {
	rc, size, err := f.Blob(f.t.Context(), here, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	content, err := io.ReadAll(rc)
	if err == nil && int64(len(content)) != size {
		err = fmt.Errorf("%d bytes, the size is %d", len(content), size)
	}
	return content, err
}

// wantTag pulls v1 and checks its digest.
func (f *fixture) wantTag(want digest.Digest) {
	f.t.Helper()
	m, err := f.Manifest(f.t.Context(), here, "v1")
	if err != nil {
		f.t.Fatal(err)
	}
	if m.Digest != want {
		f.t.Fatalf("v1 is %s, want %s", m.Digest, want)
	}
}

// wantStored checks that a blob is stored in its repository and whole.
func (f *fixture) wantStored(d digest.Digest, content []byte) {
	f.t.Helper()
	b, err := f.store.Blobs.Open(f.t.Context(), here, d)
	if err != nil {
		f.t.Fatal(err)
	}
	defer b.Close()
	if got, err := io.ReadAll(b); err != nil || !bytes.Equal(got, content) {
		f.t.Fatalf("%d bytes of %d are stored, %v", len(got), len(content), err)
	}
}

// A syncBuffer is a log that can be read while it is written.
type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

// count returns the number of log lines with all words.
func (b *syncBuffer) count(words ...string) (n int) {
	b.mu.Lock()
	defer b.mu.Unlock()
lines:
	for line := range strings.Lines(b.b.String()) {
		for _, word := range words {
			if !strings.Contains(line, word) {
				continue lines
			}
		}
		n++
	}
	return n
}

// A fakeSource forces failures that a registry cannot have.
type fakeSource struct {
	resolve  func(ctx context.Context) (ocispec.Descriptor, error)
	manifest func(ctx context.Context) (ocispec.Descriptor, []byte, error)
	stat     func(ctx context.Context, d digest.Digest) (int64, error)
	list     func(ctx context.Context) ([]ocispec.Descriptor, error)
	blob     func(ctx context.Context, d digest.Digest) (io.ReadCloser, int64, error)
}

func (s *fakeSource) Referrers(ctx context.Context, _ string, _ digest.Digest) ([]ocispec.Descriptor, error) {
	return s.list(ctx)
}

func (s *fakeSource) Tags(context.Context, string) ([]string, error) { return nil, nil }

func (s *fakeSource) Stat(ctx context.Context, _ string, d digest.Digest) (int64, error) {
	return s.stat(ctx, d)
}

func (s *fakeSource) Resolve(ctx context.Context, _, _ string) (ocispec.Descriptor, error) {
	return s.resolve(ctx)
}

func (s *fakeSource) Manifest(ctx context.Context, _, _ string) (ocispec.Descriptor, []byte, error) {
	return s.manifest(ctx)
}

func (s *fakeSource) BlobFrom(ctx context.Context, _ string, d digest.Digest, _ int64) (io.ReadCloser, int64, error) {
	return s.blob(ctx, d)
}
