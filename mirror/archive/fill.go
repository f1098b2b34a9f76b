package archive

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/durable"
)

// bufferSize is how much is read at once: media that are plugged in are slow with small writes.
const bufferSize = 256 << 10

// errTooLong is a source that has more bytes than the descriptor says.
var errTooLong = errors.New("the source sends more bytes than the manifest says")

// mismatchError reports content with another digest than its name.
type mismatchError struct{ digest digest.Digest }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("blob %s: what the source sent has another digest", e.digest)
}

// Mismatch says that the content is another.
func (e *mismatchError) Mismatch() bool { return true }

// fill writes a blob to its place, and its header when the content has the digest. Content that is
// an io.Seeker is read after what has come of it before. An error of the source comes through.
func (p *placed) fill(ctx context.Context, desc ocispec.Descriptor, r io.Reader) error {
	if err := p.resume(desc, r); err != nil {
		return err
	}
	w := &bounded{to: p.file, at: p.content() + p.came, left: desc.Size - p.came}
	w.disk.Told = w.at
	// A write that fails is not hashed, so that came and hash are always of the same bytes.
	_, err := io.CopyBuffer(io.MultiWriter(w, &p.beginning), contextReader{ctx, r}, make([]byte, bufferSize))
	switch {
	case w.err != nil:
		return writeError(w.err)
	case errors.Is(err, errTooLong):
		p.forget()
		return err
	case err != nil:
		return err
	case p.came != desc.Size:
		return fmt.Errorf("blob %s: the source sent %d bytes of %d", desc.Digest, p.came, desc.Size)
	case digest.NewDigest(desc.Digest.Algorithm(), p.hash) != desc.Digest:
		p.forget()
		return &mismatchError{desc.Digest}
	}
	return p.finish()
}

// finish writes the padding and the header.
func (p *placed) finish() error {
	if pad := padded(p.size) - p.size; pad > 0 {
		if _, err := p.file.WriteAt(make([]byte, pad), p.content()+p.size); err != nil {
			return writeError(err)
		}
	}
	if _, err := p.file.WriteAt(p.header, p.offset); err != nil {
		return writeError(err)
	}
	return nil
}

// contextReader ends with its context. It hides other methods of the reader, such as WriteTo, which
// would not.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// bounded writes no more than a place has room for: another blob begins there.
type bounded struct {
	to   *os.File
	at   int64
	left int64
	disk durable.Behind
	err  error // of writing, so that it is told from one of reading
}

func (b *bounded) Write(p []byte) (int, error) {
	if int64(len(p)) > b.left {
		return 0, errTooLong
	}
	n, err := b.to.WriteAt(p, b.at)
	b.at += int64(n)
	b.left -= int64(n)
	b.err = err
	b.disk.Wrote(b.to, b.at)
	return n, err
}
