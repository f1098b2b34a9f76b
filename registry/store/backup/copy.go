package backup

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// blob is a digest and how many bytes it has.
type blob struct {
	digest digest.Digest
	size   int64
}

// progressBytes is how much of a blob is copied between two reports of progress.
const progressBytes = 16 << 20

// pour copies a blob to w, and returns in what way its content is not what its digest says. It calls progress with how
// many bytes are done, within large blobs. What is missing at the end is not made up for.
func pour(ctx context.Context, b blob, from io.Reader, w io.Writer, p throttle.Pace, progress func(done int64)) (damage string, err error) {
	h := b.digest.Algorithm().Hash()
	var read readError
	var told, done int64
	paced := func(ctx context.Context, n int) error {
		if done += int64(n); done-told >= progressBytes {
			told = done
			progress(done)
		}
		return p(ctx, n)
	}
	n, err := throttle.Copy(ctx, io.MultiWriter(w, h), read.of(io.LimitReader(from, b.size)), paced)
	switch {
	case blobfile.IsDamage(read.err) || errors.Is(read.err, io.ErrUnexpectedEOF): // the latter from a tar that is cut off
		return blobfile.Unreadable(read.err), nil
	case err != nil:
		return "", err
	case n != b.size:
		return fmt.Sprintf("its file ended after %d of %d bytes", n, b.size), nil
	}
	if got := digest.NewDigest(b.digest.Algorithm(), h); got != b.digest {
		return "its file hashes to " + got.String(), nil
	}
	return "", nil
}

// readError remembers the error of a reader, to tell it from that of the writer in a copy.
type readError struct{ err error }

func (e *readError) of(r io.Reader) io.Reader {
	return throttle.ReaderFunc(func(p []byte) (int, error) {
		n, err := r.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			e.err = err
		}
		return n, err
	})
}
