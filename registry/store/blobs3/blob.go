package blobs3

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// blob is the object of a blob, whether or not it exists.
type blob struct {
	s      *Storage
	digest digest.Digest
	key    string
}

// version is a blobstore.Version. Content that is pushed again has the etag of the damaged object, and
// times are in seconds: what was written is told by writtenName.
type version struct {
	etag, written string
	size          int64
	modified      int64 // seconds since 1970
}

// writtenName is the name of the metadata that differ each time that a blob is written.
const writtenName = "Written"

func versionOf(info minio.ObjectInfo) version {
	return version{info.ETag, info.UserMetadata[writtenName], info.Size, info.LastModified.Unix()}
}

func written() minio.PutObjectOptions {
	return minio.PutObjectOptions{UserMetadata: map[string]string{writtenName: rand.Text()}}
}

// Blob implements blobstore.Storage.
func (s *Storage) Blob(d digest.Digest) blobstore.Blob {
	if image.CheckDigest(d) != nil {
		return blob{s: s, digest: d}
	}
	return blob{s, d, s.key(blobstore.Name(d))}
}

// Quarantined implements blobstore.Storage.
func (s *Storage) Quarantined(d digest.Digest) blobstore.Blob {
	if image.CheckDigest(d) != nil {
		return blob{s: s, digest: d}
	}
	return blob{s, d, s.quarantined(d)}
}

func (s *Storage) quarantined(d digest.Digest) string {
	return s.key("quarantine/" + d.Algorithm().String() + "-" + d.Encoded())
}

func (b blob) stat(ctx context.Context) (minio.ObjectInfo, error) {
	return b.s.stat(ctx, "look at blob "+b.place(), b.key)
}

func (b blob) place() string { return b.digest.String() + " in " + b.s.Root() }

func (b blob) wrongSize(got, want int64) string {
	return fmt.Sprintf("its object %s has %d bytes, not %d", b.key, got, want)
}

// Open implements blobstore.Blob.
func (b blob) Open(ctx context.Context, size int64) (io.ReadSeekCloser, error) {
	r := &reader{blob: b, ctx: ctx, size: size}
	if err := r.request(); err != nil {
		return nil, err
	}
	return r, nil
}

// addressFor is how long an address is good for. S3 takes requests from a clock that is 15 minutes off,
// and the time at which an address ends is by that clock.
const addressFor = 20 * time.Minute

// Address returns an address from which the blob can be read without a login, signed with that of the
// storage. It is made without a request: whether the blob exists is not looked at.
func (b blob) Address(ctx context.Context) (string, error) {
	u, err := b.s.core.PresignedGetObject(ctx, b.s.address.Bucket, b.key, addressFor, nil)
	if err != nil {
		return "", explain("sign an address of blob "+b.place(), err)
	}
	return u.String(), nil
}

// Check implements blobstore.Blob.
func (b blob) Check(ctx context.Context, size int64) error {
	info, err := b.stat(ctx)
	if err == nil && info.Size != size {
		err = fmt.Errorf("%w: %s", blobstore.ErrLost, b.wrongSize(info.Size, size))
	}
	return err
}

// Readable implements blobstore.Blob.
func (b blob) Readable(ctx context.Context) bool {
	_, err := b.stat(ctx)
	return err == nil
}

// Inspect implements blobstore.Blob.
func (b blob) Inspect(ctx context.Context, size int64, p throttle.Pace) (found blobstore.Finding, err error) {
	if err := image.CheckDigest(b.digest); err != nil {
		return blobstore.Finding{Damage: err.Error()}, nil
	}
	info, err := b.stat(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return blobstore.Finding{Damage: "its object " + b.key + " is missing"}, nil
	case err != nil:
		return found, err
	}
	found.Seen = versionOf(info)
	if info.Size != size {
		found.Damage = b.wrongSize(info.Size, size)
	}
	if p == nil || found.Damage != "" {
		return found, nil
	}
	h := b.digest.Algorithm().Hash()
	content := &reader{blob: b, ctx: ctx, size: size}
	found.Read, err = throttle.Copy(ctx, h, content, p)
	err = errors.Join(err, content.Close())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return blobstore.Finding{Damage: "its object " + b.key + " is missing", Read: found.Read}, nil
	case err != nil:
		return found, err
	}
	if got := digest.NewDigest(b.digest.Algorithm(), h); got != b.digest {
		found.Damage = fmt.Sprintf("its object %s hashes to %s", b.key, got)
	}
	return found, nil
}

// IsStill implements blobstore.Blob.
func (b blob) IsStill(ctx context.Context, seen blobstore.Version) bool {
	if b.key == "" {
		return seen == nil
	}
	info, err := b.stat(ctx)
	if seen == nil || errors.Is(err, fs.ErrNotExist) {
		return seen == nil && errors.Is(err, fs.ErrNotExist)
	}
	return err == nil && seen == versionOf(info)
}

// Old implements blobstore.Blob.
func (b blob) Old(ctx context.Context, before, _ time.Time) (size int64, old bool, err error) {
	info, err := b.stat(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	return info.Size, err == nil && info.LastModified.Before(before), err
}

// Quarantine implements blobstore.Blob.
func (b blob) Quarantine(ctx context.Context) error {
	if b.key == "" {
		return nil
	}
	info, err := b.stat(ctx)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = b.s.copy(ctx, "move blob "+b.place()+" to quarantine", b.key, b.s.quarantined(b.digest), info.Size)
	}
	if err == nil {
		err = b.s.remove(ctx, "remove blob "+b.place(), b.key)
	}
	return err
}

// Remove implements blobstore.Blob.
func (b blob) Remove(ctx context.Context) (int64, error) {
	info, err := b.stat(ctx)
	if err != nil {
		return 0, err
	}
	return info.Size, b.s.remove(ctx, "remove blob "+b.place(), b.key)
}

// RemoveIf implements blobstore.Blob. Place returns no version: a blob of which it is unknown whether
// it was placed is left to collection.
func (b blob) RemoveIf(context.Context, blobstore.Version) error { return nil }

// reader reads a blob from an offset. After a failure it goes on with another request.
type reader struct {
	blob
	ctx      context.Context // of the request that opened it
	size     int64
	offset   int64
	body     io.ReadCloser // nil until a request
	at       int64         // offset of the next byte of body
	end      func()        // ends the request of body
	etag     string        // of the first answer: the content must not change between requests
	failures int           // since the last byte
}

// request begins the answer at the offset.
func (r *reader) request() error {
	ctx, end := context.WithCancelCause(r.ctx)
	err := r.s.doWhile(ctx, end, "read blob "+r.place(), func(ctx context.Context) error {
		var o minio.GetObjectOptions
		if r.offset > 0 {
			if err := o.SetRange(r.offset, 0); err != nil {
				return err
			}
		}
		if r.etag != "" {
			if err := o.SetMatchETag(r.etag); err != nil {
				return err
			}
		}
		body, info, _, err := r.s.core.GetObject(ctx, r.s.address.Bucket, r.key, o)
		if err != nil {
			return err
		}
		if r.offset == 0 && info.Size != r.size {
			return errors.Join(fmt.Errorf("%w: %s", blobstore.ErrLost, r.wrongSize(info.Size, r.size)), body.Close())
		}
		r.body, r.at, r.end, r.etag = body, r.offset, func() { end(nil) }, info.ETag
		return nil
	})
	if err != nil {
		end(nil)
	}
	return err
}

// drop ends the request under way.
func (r *reader) drop() error {
	if r.body == nil {
		return nil
	}
	r.end()
	err := r.body.Close()
	r.body = nil
	return err
}

// maxFailures is how often reading may fail, without a byte.
const maxFailures = 5

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	for {
		if r.offset >= r.size {
			return 0, io.EOF
		}
		if r.at != r.offset {
			_ = r.drop()
		}
		if r.body == nil {
			if err := r.request(); err != nil {
				return 0, err
			}
		}
		stall := time.AfterFunc(r.s.silence, r.end)
		n, err := r.body.Read(p[:min(int64(len(p)), r.size-r.offset)])
		if !stall.Stop() && err != nil {
			err = &silentError{r.s.silence}
		}
		r.offset, r.at = r.offset+int64(n), r.at+int64(n)
		if n > 0 {
			r.failures = 0
			return n, nil
		}
		if err == nil {
			continue
		}
		_ = r.drop() // it failed, or ended too early
		if r.failures++; r.failures > maxFailures || r.ctx.Err() != nil {
			return 0, explain("read blob "+r.place(), errors.Join(err, r.ctx.Err()))
		}
	}
}

// Seek implements io.Seeker.
func (r *reader) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekCurrent:
		offset += r.offset
	case io.SeekEnd:
		offset += r.size
	}
	if offset < 0 {
		return 0, fmt.Errorf("seek in blob %s: %w", r.digest, fs.ErrInvalid)
	}
	r.offset = offset // a caller that asks for the size seeks to the end and back: the answer is kept
	return offset, nil
}

// Close implements io.Closer.
func (r *reader) Close() error { return r.drop() }
