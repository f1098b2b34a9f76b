package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// Run is a staged sync in the daemon: what is put into it becomes visible with Commit, all at
// once. A Run that is neither committed nor aborted is collected some day.
type Run struct {
	client *Client
	id     string
}

// BeginSync begins a run. The name tells people what it brings.
func (c *Client) BeginSync(ctx context.Context, name string) (*Run, error) {
	var a syncAnswer
	if err := c.json(ctx, c.http, http.MethodPost, "/api/v1/sync", syncRequest{Name: name}, &a); err != nil {
		return nil, err
	}
	return &Run{client: c, id: a.ID}, nil
}

// ID names the run in the daemon's log.
func (r *Run) ID() string { return r.id }

// Held tells which of these are held anywhere in the store, and keeps those for the run: one
// request in place of one for each digest.
func (r *Run) Held(ctx context.Context, repo string, blobs, manifests []digest.Digest) (Held, error) {
	var a Held
	err := r.client.json(ctx, r.client.http, http.MethodPost, r.path("held"), Held{Repository: repo, Blobs: blobs, Manifests: manifests}, &a)
	return a, err
}

// HasBlob tells whether the blob is held anywhere in the store, and if so keeps it for the run.
func (r *Run) HasBlob(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	return r.check(ctx, "blobs", repo, d)
}

// Source records that what the run puts into repo comes from path on registry, to ask there when it is damaged.
func (r *Run) Source(ctx context.Context, repo, registry, path string) error {
	return r.client.json(ctx, r.client.http, http.MethodPost, r.path("source"), sourceRequest{Repository: repo, Registry: registry, Path: path}, nil)
}

// HasManifest tells whether the manifest is held anywhere in the store, and if so stages it for repo.
func (r *Run) HasManifest(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	return r.check(ctx, "manifests", repo, d)
}

func (r *Run) check(ctx context.Context, kind, repo string, d digest.Digest) (bool, error) {
	var a checkAnswer
	err := r.client.json(ctx, r.client.http, http.MethodPost, r.path(kind, d.String(), "check")+named(repo), nil, &a)
	return a.Held, err
}

// PutBlob sends the bytes of body, desc.Size of them, which the daemon verifies. It has let go
// of body when it returns.
func (r *Run) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, body io.Reader) error {
	source := newSource(body)
	req, err := r.client.request(ctx, http.MethodPut, r.path("blobs", desc.Digest.String())+named(repo), source)
	if err != nil {
		return err
	}
	req.ContentLength = desc.Size
	if desc.Size == 0 {
		req.Body = http.NoBody
		source.Close()
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	// The daemon can refuse (no such run, no room) before gigabytes are on their way.
	req.Header.Set("Expect", "100-continue")
	err = r.client.do(r.client.http, req, nil)
	if failed := source.wait(); failed != nil {
		return fmt.Errorf("read blob %s: %w", desc.Digest, failed)
	}
	return err
}

// PutManifest sends a manifest, whose blobs must be held or have been put before.
func (r *Run) PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	req, err := r.client.request(ctx, http.MethodPut, r.path("manifests", desc.Digest.String())+named(repo), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", desc.MediaType)
	return r.client.do(r.client.http, req, nil)
}

// Tag names a manifest of the run.
func (r *Run) Tag(ctx context.Context, repo, tag string, d digest.Digest) error {
	return r.client.json(ctx, r.client.http, http.MethodPost, r.path("tags"), tagRequest{Repository: repo, Tag: tag, Digest: d}, nil)
}

// Commit makes visible all that the run staged.
func (r *Run) Commit(ctx context.Context) error {
	return r.client.json(ctx, r.client.patient, http.MethodPost, r.path("commit"), nil, nil)
}

// Abort gives the run up. What it staged is left to collection.
func (r *Run) Abort(ctx context.Context) error {
	return r.client.json(ctx, r.client.http, http.MethodDelete, r.path(), nil, nil)
}

func (r *Run) path(elem ...string) string {
	p := "/api/v1/sync/" + url.PathEscape(r.id)
	for _, e := range elem {
		p += "/" + url.PathEscape(e)
	}
	return p
}

func named(repo string) string { return "?repository=" + url.QueryEscape(repo) }

// source is the body of a request. It keeps the reader's own error, which net/http would report
// as one of the connection, and tells when net/http has let go of it: that may be after Do has
// returned, and the caller may then read on or close what it gave us.
type source struct {
	closed chan struct{} // closed when net/http will not read any more

	mu   sync.Mutex // guards what follows; held while r is read, so that Close waits for it
	r    io.Reader
	done bool
	err  error
}

func newSource(r io.Reader) *source { return &source{r: r, closed: make(chan struct{})} }

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return 0, fs.ErrClosed
	}
	n, err := s.r.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Close is called by net/http, maybe more than once, or by PutBlob if there is nothing to send.
func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.done = true
		close(s.closed)
	}
	return nil
}

// wait returns the reader's own error when net/http has let go of it.
func (s *source) wait() error {
	<-s.closed
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
