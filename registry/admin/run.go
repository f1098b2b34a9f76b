package admin

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"net/http"
	"net/url"
	"slices"
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

// Held tells which of some blobs and manifests, listed by the repository that they are wanted in, need not be put, and makes
// those a part of the run. Unconfirmed are the blobs that only other repositories have, see Confirm.
func (r *Run) Held(ctx context.Context, blobs, manifests map[string][]digest.Digest) (heldBlobs, heldManifests, unconfirmed map[string][]digest.Digest, err error) {
	heldBlobs, heldManifests, unconfirmed = map[string][]digest.Digest{}, map[string][]digest.Digest{}, map[string][]digest.Digest{}
	ask := func(q heldLists) error {
		var a heldLists
		if err := r.post(ctx, "held", q, &a); err != nil {
			return err
		}
		merge(heldBlobs, a.Blobs)
		merge(heldManifests, a.Manifests)
		merge(unconfirmed, a.Unconfirmed)
		return nil
	}
	for some := range portions(blobs) {
		if err := ask(heldLists{Blobs: some}); err != nil {
			return nil, nil, nil, err
		}
	}
	for some := range portions(manifests) {
		if err := ask(heldLists{Manifests: some}); err != nil {
			return nil, nil, nil, err
		}
	}
	return heldBlobs, heldManifests, unconfirmed, nil
}

func merge(all, some map[string][]digest.Digest) {
	for repo, ds := range some {
		all[repo] = append(all[repo], ds...)
	}
}

// Confirm makes blobs that other repositories have part of the run without sending them, since the source of the repository
// that they are listed by has each of them, of that size. It gives those that are staged; the others are to be put.
func (r *Run) Confirm(ctx context.Context, blobs map[string][]ocispec.Descriptor) (staged map[string][]digest.Digest, err error) {
	staged = map[string][]digest.Digest{}
	for some := range portions(blobs) {
		q := confirmRequest{Blobs: map[string][]confirmedBlob{}}
		for repo, list := range some {
			for _, b := range list {
				q.Blobs[repo] = append(q.Blobs[repo], confirmedBlob{b.Digest, b.Size})
			}
		}
		var a confirmAnswer
		if err := r.post(ctx, "confirm", q, &a); err != nil {
			return nil, err
		}
		merge(staged, a.Blobs)
	}
	return staged, nil
}

// portions cuts what is listed by repository into what one request takes.
func portions[E any](lists map[string][]E) iter.Seq[map[string][]E] {
	return func(yield func(map[string][]E) bool) {
		some, n := map[string][]E{}, 0
		for repo, list := range lists {
			for len(list) > 0 {
				part := list[:min(atOnce-n, len(list))]
				some[repo], list, n = part, list[len(part):], n+len(part)
				if n < atOnce {
					continue
				}
				if !yield(some) {
					return
				}
				some, n = map[string][]E{}, 0
			}
		}
		if n > 0 {
			yield(some)
		}
	}
}

// Source records, by repository, what the run brings there from where, such as quay.io/org/image, to ask there when it
// is damaged.
func (r *Run) Source(ctx context.Context, from map[string][]string) error {
	for some := range portions(from) {
		if err := r.post(ctx, "sources", sourceRequest{Sources: some}, nil); err != nil {
			return err
		}
	}
	return nil
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

// PutManifest sends a manifest, whose blobs must be held in the repository, or have been put or confirmed for it before.
func (r *Run) PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	req, err := r.client.request(ctx, http.MethodPut, r.path("manifests", desc.Digest.String())+named(repo), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", desc.MediaType)
	return r.client.do(r.client.http, req, nil)
}

// Tag names manifests of the run: for each repository, what each of its tags is to name.
func (r *Run) Tag(ctx context.Context, tags map[string]map[string]digest.Digest) error {
	var all []tag
	for repo, named := range tags {
		for name, d := range named {
			all = append(all, tag{Repository: repo, Tag: name, Digest: d})
		}
	}
	for some := range slices.Chunk(all, atOnce) {
		if err := r.post(ctx, "tags", tagRequest{Tags: some}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Commit makes visible all that the run staged.
func (r *Run) Commit(ctx context.Context) error {
	return r.client.json(ctx, r.client.patient, http.MethodPost, r.path("commit"), nil, nil)
}

// Abort gives the run up. What it staged is left to collection.
func (r *Run) Abort(ctx context.Context) error {
	return r.client.json(ctx, r.client.http, http.MethodDelete, r.path(), nil, nil)
}

func (r *Run) post(ctx context.Context, what string, q, answer any) error {
	return r.client.json(ctx, r.client.http, http.MethodPost, r.path(what), q, answer)
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
