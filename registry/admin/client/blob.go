package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// partial is what the daemon has of blobs whose upload broke off.
type partial struct {
	mu    sync.Mutex // guards blobs
	blobs map[digest.Digest]part
}

type part struct {
	size  int64 // that the daemon has
	ask   bool  // an upload of this run broke off, so that it has another
	whole bool  // the daemon refused to go on: another upload of it is under way, or ended
}

// learn notes what the daemon says.
func (p *partial) learn(sizes map[digest.Digest]int64) {
	for d, n := range sizes {
		p.change(d, func(b *part) { b.size = n })
	}
}

func (p *partial) change(d digest.Digest, do func(*part)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.blobs == nil {
		p.blobs = map[digest.Digest]part{}
	}
	b := p.blobs[d]
	do(&b)
	p.blobs[d] = b
}

func (p *partial) of(d digest.Digest) part {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.blobs[d]
}

// bytes returns how much the daemon has of all.
func (p *partial) bytes() (n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, b := range p.blobs {
		n += b.size
	}
	return n
}

// ended notes how an upload ended.
func (p *partial) ended(d digest.Digest, err error) {
	if err == nil {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.blobs, d)
		return
	}
	var refused *Refused
	conflict := errors.As(err, &refused) && refused.Status == http.StatusConflict
	p.change(d, func(b *part) { *b = part{ask: true, whole: b.whole || conflict} })
}

// PutBlob sends desc.Size bytes of body, which the daemon verifies. It does not read
// body after it returns. A body that is an io.Seeker is sent from where the daemon has it.
func (r *Run) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, body io.Reader) error {
	offset, exists, err := r.resume(ctx, repo, desc, body)
	if err == nil && !exists {
		err = r.putFrom(ctx, repo, desc, offset, body)
	}
	r.ended(desc.Digest, err)
	return err
}

// resume returns where body begins, after seeking there. exists: only an answer was lost.
func (r *Run) resume(ctx context.Context, repo string, desc ocispec.Descriptor, body io.Reader) (
	at int64, exists bool, err error) {
	s, ok := body.(io.Seeker)
	if !ok {
		return 0, false, nil
	}
	b := r.of(desc.Digest)
	if b.ask {
		q := api.Existing{Blobs: map[string][]digest.Digest{repo: {desc.Digest}}}
		a, err := call(ctx, r.client, api.CheckSync, q, r.id)
		if err != nil || len(a.Blobs[repo]) > 0 {
			return 0, err == nil, err
		}
		b.size = a.Partial[desc.Digest]
	}
	if b.whole || b.size <= 0 || b.size > desc.Size {
		return 0, false, nil
	}
	if _, err := s.Seek(b.size, io.SeekStart); err != nil {
		return 0, false, fmt.Errorf("continue blob %s at byte %d: %w", desc.Digest, b.size, err)
	}
	return b.size, false, nil
}

// putFrom puts a blob of which the daemon has the first offset bytes. On the daemon's own host a
// large one is written into its file.
func (r *Run) putFrom(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64, body io.Reader) error {
	if r.client.files.takes(desc) {
		switch err := r.writeFile(ctx, desc, offset, body); {
		case err == nil:
			offset, body = desc.Size, strings.NewReader("")
		case !errors.Is(err, errNoFile):
			return err
		}
	}
	return r.putRest(ctx, repo, desc, offset, body)
}

func (r *Run) putRest(ctx context.Context, repo string, desc ocispec.Descriptor, offset int64, body io.Reader) error {
	left := desc.Size - offset
	source := newSource(body, left)
	req, err := r.put(ctx, api.PutBlob, repo, desc.Digest, "application/octet-stream", source)
	if err != nil {
		return err
	}
	if offset > 0 {
		req.Header.Set(api.UploadOffset, strconv.FormatInt(offset, 10))
	}
	req.ContentLength = left
	if left == 0 {
		req.Body = http.NoBody
		source.Close()
	}
	// The daemon can refuse (no such run, no space) before gigabytes are on their way.
	req.Header.Set("Expect", "100-continue")
	err = r.client.do(r.client.http, req, nil)
	if failed := source.wait(); failed != nil {
		return readError(desc.Digest, failed)
	}
	return err
}

var errLonger = errors.New("it is longer than its size says")

// source is the body of a request. It keeps the reader's own error, which net/http reports as one
// of the connection, and waits until net/http reads no more: that may be after Do has returned.
type source struct {
	closed chan struct{} // closed when net/http will not read any more

	mu   sync.Mutex // guards what follows; held while r is read, so that Close waits for it
	r    io.Reader
	left int64 // bytes that are still to be read
	done bool
	err  error
}

func newSource(r io.Reader, size int64) *source {
	return &source{r: r, left: size, closed: make(chan struct{})}
}

func (s *source) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.done {
		return 0, fs.ErrClosed
	}
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.r.Read(p[:min(int64(len(p)), s.left)])
	if s.left -= int64(n); s.left == 0 && (err == nil || err == io.EOF) {
		// The last bytes go only when the reader has confirmed its end: the daemon takes a
		// blob when it is complete.
		switch extra, end := io.ReadFull(s.r, make([]byte, 1)); {
		case extra > 0:
			n, err = 0, errLonger
		case end != io.EOF:
			n, err = 0, end
		}
	}
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

// Close is called by net/http, sometimes more than once, and by PutBlob if there is nothing to
// send.
func (s *source) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.done {
		s.done = true
		close(s.closed)
	}
	return nil
}

// wait waits until net/http reads no more, and returns the reader's own error.
func (s *source) wait() error {
	<-s.closed
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}
