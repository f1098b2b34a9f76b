package upstream

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/webpage"
)

// progress is the number of bytes after which a resumed connection resets the count of failures.
// Without a reset, a line that breaks every few seconds would never deliver a large layer; with a
// reset at each byte, attempts might never end.
const progress = 1 << 20

// Blob opens a blob; the size is -1 if the registry does not announce it. A connection that breaks,
// stalls or ends early is resumed where it broke. Read returns the last bytes only if the content
// hashes to d, otherwise an error in place of them and of io.EOF. ctx ends the reading too. A blob
// that does not exist is an error with fs.ErrNotExist.
func (c *Client) Blob(ctx context.Context, repo string, d digest.Digest) (io.ReadCloser, int64, error) {
	return c.blob(ctx, repo, d, 0, true)
}

// BlobFrom is Blob for a reader that hashes the content, such as an upload to the store, and has
// what comes before offset. It verifies the size only, and returns that of the whole blob.
func (c *Client) BlobFrom(ctx context.Context, repo string, d digest.Digest, offset int64) (io.ReadCloser, int64, error) {
	return c.blob(ctx, repo, d, offset, false)
}

func (c *Client) blob(ctx context.Context, repo string, d digest.Digest, offset int64, verified bool) (
	io.ReadCloser, int64, error) {
	r, err := c.repository(repo)
	if err != nil {
		return nil, 0, err
	}
	if err := d.Validate(); err != nil {
		return nil, 0, c.failed(r, "get blob "+d.String(), err)
	}
	b := &blob{client: c, ctx: ctx, repo: r, digest: d, offset: offset, since: offset, size: -1, closed: -1}
	if verified {
		b.verifier = d.Algorithm().Digester()
	}
	var wrong *resumeError
	err = b.open()
	if errors.As(err, &wrong) && b.whole { // the answer to the range is not its bytes
		err = b.open()
	}
	if errors.As(err, &wrong) { // nothing has broken yet
		err = b.failed(wrong.err)
	}
	if err != nil {
		return nil, 0, err
	}
	return b, b.size, nil
}

// Stat returns the size of a blob without fetching it, -1 if the registry does not announce it. A
// blob that does not exist is an error with fs.ErrNotExist.
func (c *Client) Stat(ctx context.Context, repo string, d digest.Digest) (int64, error) {
	r, err := c.repository(repo)
	if err != nil {
		return 0, err
	}
	what := "look for blob " + d.String()
	if err := d.Validate(); err != nil {
		return 0, c.failed(r, what, err)
	}
	ctx, url := forBlobs(ctx), c.url(r, "blobs/"+d.String())
	resp, err := c.get(ctx, http.MethodHead, r, what, url, nil, http.StatusOK)
	if unsupported(err, http.StatusForbidden) { // an address signed for GET, for example
		resp, err = c.get(ctx, http.MethodGet, r, what, url, nil, http.StatusOK)
	}
	if err != nil {
		return 0, err
	}
	resp.Body.Close() // does not read the rest
	return resp.ContentLength, nil
}

// blob reads a blob over as many connections as needed.
type blob struct {
	client *Client
	ctx    context.Context // of all reads
	repo   name.Repository
	digest digest.Digest

	body     io.ReadCloser   // of the connection
	size     int64           // -1: unknown
	offset   int64           // of the next byte
	whole    bool            // the registry refuses ranges
	verifier digest.Digester // nil: the reader verifies
	failures int             // in a row
	since    int64           // offset at the last failure
	// delimited: the answer says where it ends. Otherwise a connection that is closed early looks
	// like the end, and closed is the offset at which that happened last.
	delimited bool
	closed    int64
	err       error // of the last read
}

func (b *blob) what() string { return "get blob " + b.digest.String() }

// open connects at offset.
func (b *blob) open() error {
	header := b.rangeHeader()
	url := b.client.url(b.repo, "blobs/"+b.digest.String())
	resp, err := b.client.get(forBlobs(b.ctx), http.MethodGet, b.repo, b.what(), url, header,
		http.StatusOK, http.StatusPartialContent)
	if header != nil && refusesRange(err) {
		b.whole = true
		return b.open()
	}
	if err != nil {
		return err
	}
	if b.offset == 0 && isPage(resp, b.digest) {
		resp.Body.Close()
		return &resumeError{webpage.New(b.client.Registry(), b.client.plain)}
	}
	if err := b.accept(resp); err != nil {
		resp.Body.Close()
		return &resumeError{err: err}
	}
	b.body = resp.Body
	b.delimited = resp.ContentLength >= 0 || resp.ProtoMajor > 1 || len(resp.TransferEncoding) > 0
	return nil
}

// refusesRange reports whether an error may be about the range, and the whole blob be served.
func refusesRange(err error) bool {
	return unsupported(err, http.StatusForbidden, http.StatusPreconditionFailed,
		http.StatusRequestedRangeNotSatisfiable)
}

// rangeHeader returns the range of the missing bytes, with its end if known: some registries
// require that.
func (b *blob) rangeHeader() http.Header {
	switch {
	case b.offset == 0 || b.whole:
		return nil
	case b.size < 0:
		return http.Header{"Range": {fmt.Sprintf("bytes=%d-", b.offset)}}
	}
	return http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", b.offset, b.size-1)}}
}

// accept checks an answer, and skips to offset if the registry ignored the range.
func (b *blob) accept(resp *http.Response) error {
	total, start := resp.ContentLength, int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		var ok bool
		if start, total, ok = contentRange(resp.Header.Get("Content-Range")); !ok || start != b.offset {
			b.whole = true // next time
			return fmt.Errorf("requested the bytes from %d, the answer is %q", b.offset,
				resp.Header.Get("Content-Range"))
		}
	}
	switch {
	case b.size < 0:
		b.size = total
	case total >= 0 && total != b.size:
		return fmt.Errorf("its size was %d bytes and is %d now", b.size, total)
	}
	_, err := io.CopyN(io.Discard, resp.Body, b.offset-start)
	return err
}

// resumeError reports a connection that broke before it reached offset, or an answer other than the
// rest of the blob, such as a page of a proxy. A retry may succeed.
type resumeError struct{ err error }

func (e *resumeError) Error() string { return e.err.Error() }
func (e *resumeError) Unwrap() error { return e.err }

// contentRange parses "bytes 5-9/10"; the total is -1 for "*".
func contentRange(s string) (start, total int64, ok bool) {
	s, ok = strings.CutPrefix(s, "bytes ")
	span, all, ok2 := strings.Cut(s, "/")
	first, _, ok3 := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil {
		return 0, 0, false
	}
	if all == "*" {
		return start, -1, true
	}
	total, err = strconv.ParseInt(all, 10, 64)
	return start, total, err == nil
}

// Read reads over a new connection if needed.
func (b *blob) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for b.err == nil {
		if b.body == nil {
			b.err = b.reopen()
			continue
		}
		n, err := b.body.Read(p)
		if n > 0 {
			return b.take(p[:n])
		}
		if err != nil {
			b.err = b.ended(err)
		}
	}
	return 0, b.err
}

// take counts and hashes bytes. It returns them unless they are the end of a damaged blob.
func (b *blob) take(p []byte) (int, error) {
	if b.verifier != nil {
		b.verifier.Hash().Write(p)
	}
	b.offset += int64(len(p))
	if b.size >= 0 && b.offset >= b.size {
		if b.err = b.verify(); b.err != nil && !errors.Is(b.err, io.EOF) {
			return 0, b.err
		}
	}
	return len(p), nil
}

// verify returns io.EOF if the blob is complete and undamaged.
func (b *blob) verify() error {
	if b.size >= 0 && b.offset != b.size {
		return b.failed(fmt.Errorf("%d bytes arrived, %d were announced", b.offset, b.size))
	}
	if b.verifier == nil {
		return io.EOF
	}
	if got := b.verifier.Digest(); got != b.digest {
		return b.failed(wrongDigest(b.digest, got))
	}
	return io.EOF
}

// ended handles the end of a connection. It returns nil to resume the blob.
func (b *blob) ended(err error) error {
	b.body.Close()
	b.body = nil
	if errors.Is(err, io.EOF) && (b.size < 0 || b.offset >= b.size) {
		if err = b.verify(); errors.Is(err, io.EOF) || b.delimited || b.offset == b.closed {
			return err
		}
		b.closed = b.offset
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return b.broken(err)
}

// broken counts a failure and waits. It returns nil to resume.
func (b *blob) broken(cause error) error {
	if err := b.ctx.Err(); err != nil {
		return b.failed(err)
	}
	if b.offset-b.since >= progress {
		b.failures = 0
	}
	b.failures++
	b.since = b.offset
	if b.failures >= b.client.retry.attempts {
		return b.failed(fmt.Errorf("the connection broke at byte %d, %d times in a row: %w",
			b.offset, b.failures, cause))
	}
	if err := b.client.retry.wait(b.ctx, b.failures, 0, cause.Error()); err != nil {
		return b.failed(err)
	}
	return nil
}

func (b *blob) reopen() error {
	err := b.open()
	var again *resumeError
	if errors.As(err, &again) {
		return b.broken(again.err)
	}
	return err
}

func (b *blob) failed(err error) error { return b.client.failed(b.repo, b.what(), err) }

// Close closes the connection. It does not wait for the rest of the blob.
func (b *blob) Close() error {
	if b.err == nil {
		b.err = errors.New("read after close")
	}
	if b.body == nil {
		return nil
	}
	body := b.body
	b.body = nil
	return body.Close()
}
