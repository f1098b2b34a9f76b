package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/busy"
)

const repo = "openshift/release"

// A fixture is a real registry behind a handler that injects faults.
type fixture struct {
	server   *httptest.Server
	registry http.Handler
	body     []byte        // of the manifest tagged v1
	manifest digest.Digest // and its digest
	layer    []byte
	blob     digest.Digest

	mu     sync.Mutex
	seen   []*http.Request
	fault  func(w http.ResponseWriter, r *http.Request, nth int) bool // true: answered
	counts map[string]int
	naps   []time.Duration
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := prepare(t)
	f.server = httptest.NewServer(f)
	t.Cleanup(f.server.Close)
	return f
}

// prepare fills a registry that is not served yet.
func prepare(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		registry: registry.New(registry.Logger(log.New(io.Discard, "", 0))),
		layer:    make([]byte, 3<<20), // more than the buffers hold
		counts:   map[string]int{},
	}
	source := rand.NewChaCha8([32]byte{1})
	_, _ = source.Read(f.layer)
	f.blob = f.push(t, "blobs", f.layer, "")
	config := []byte("{}")
	f.body = fmt.Appendf(nil, `{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":2},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":%q,"size":%d}]}`,
		ocispec.MediaTypeImageManifest, f.push(t, "blobs", config, ""), f.blob, len(f.layer))
	f.manifest = f.push(t, "manifests/v1", f.body, ocispec.MediaTypeImageManifest)
	return f
}

func (f *fixture) push(t *testing.T, kind string, content []byte, mediaType string) digest.Digest {
	t.Helper()
	d := digest.FromBytes(content)
	method, path := http.MethodPut, "/v2/"+repo+"/"+kind
	if kind == "blobs" {
		method, path = http.MethodPost, "/v2/"+repo+"/blobs/uploads/?digest="+d.String()
	}
	req := httptest.NewRequest(method, path, bytes.NewReader(content))
	req.Header.Set("Content-Type", mediaType)
	w := httptest.NewRecorder()
	f.registry.ServeHTTP(w, req)
	if w.Code != http.StatusCreated {
		t.Fatalf("push %s: %d %s", path, w.Code, w.Body)
	}
	return d
}

func (f *fixture) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	key := r.Method + " " + strings.TrimPrefix(r.URL.Path, "/v2/"+repo)
	f.mu.Lock()
	f.counts[key]++
	nth, fault := f.counts[key], f.fault
	f.seen = append(f.seen, r)
	f.mu.Unlock()
	if fault != nil && fault(w, r, nth) {
		return
	}
	f.registry.ServeHTTP(w, r)
}

// count returns the number of requests with a method and a path below the repository.
func (f *fixture) count(method, path string) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.counts[method+" "+path]
}

// ranges returns the Range headers of the requests for a blob, "" for none.
func (f *fixture) ranges() (ranges []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range f.seen {
		if strings.Contains(r.URL.Path, "/blobs/") {
			ranges = append(ranges, r.Header.Get("Range"))
		}
	}
	return ranges
}

func (f *fixture) host() string { return f.server.Listener.Addr().String() }

// sleep records its duration and returns at once.
func (f *fixture) sleep(ctx context.Context, d time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.naps = append(f.naps, d)
	return ctx.Err()
}

// clock is a time that sleep alone moves.
func (f *fixture) clock() time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Unix(1e9, 0)
	for _, d := range f.naps {
		now = now.Add(d)
	}
	return now
}

func (f *fixture) client(t *testing.T, changes ...func(*Options)) *Client {
	t.Helper()
	o := Options{Registry: f.host(), PlainHTTP: f.server.TLS == nil, Retries: 5, Sleep: f.sleep, Busy: busy.New(f.clock, nil)}
	for _, change := range changes {
		change(&o)
	}
	c, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func readBlob(ctx context.Context, c *Client, d digest.Digest) ([]byte, error) {
	rc, _, err := c.Blob(ctx, repo, d)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	return io.ReadAll(rc)
}

// sendPart announces all of a blob and stops after n bytes.
func sendPart(w http.ResponseWriter, content []byte, n int) {
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content[:n])
	w.(http.Flusher).Flush()
}

func cut() { panic(http.ErrAbortHandler) }

func asError(t *testing.T, err error) *readError {
	t.Helper()
	var e *readError
	if !errors.As(err, &e) {
		t.Fatalf("got %T %v, want *readError", err, err)
	}
	return e
}

func wantText(t *testing.T, got string, want ...string) {
	t.Helper()
	for _, w := range want {
		if !strings.Contains(got, w) {
			t.Errorf("%q does not say %q", got, w)
		}
	}
}
