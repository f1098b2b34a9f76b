package transfer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// resumeFrom is the size of the smallest blob that goes on where a Run was killed.
const resumeFrom = 1 << 20

func newBody(body []byte) io.ReadSeeker { return bytes.NewReader(body) }

// damageOf returns what an error of reading a blob of the source says of it. Other errors are of this
// process, or of a storage that does not answer.
func damageOf(err error) (damage string, _ error) {
	if err != nil && (blobstore.IsLoss(err) || blobfile.IsDamage(err)) {
		return err.Error(), nil
	}
	return "", err
}

// receive writes a blob to the target and makes it durable there, if content has its digest, or
// returns how it differs.
func (c *copying) receive(ctx context.Context, b blob, content io.ReadSeeker) (damage string, err error) {
	if b.size < resumeFrom {
		u, err := c.to.blobs.NewUpload("", c.Now().UTC())
		if err != nil {
			return "", err
		}
		return c.pour(ctx, b, u, content)
	}
	if c.to.begun { // it may have been placed, without its row
		found, err := c.to.blobs.Blob(b.digest).Inspect(ctx, b.size, throttle.New(0))
		if err != nil || found.Damage == "" {
			return "", err
		}
	}
	if at := c.to.blobs.PartialSize(ctx, b.digest); at > 0 && at <= b.size {
		u, err := c.to.blobs.ResumePartial(ctx, b.digest, at)
		if err == nil {
			damage, err := c.pour(ctx, b, u, content)
			if damage == "" || err != nil {
				return "", err
			}
			// The bytes that were there may be others: all come again.
		} else if !missing(err) {
			return "", err
		}
	}
	u, err := c.to.blobs.NewPartial(ctx, b.digest, c.Now().UTC())
	if err != nil {
		return "", err
	}
	return c.pour(ctx, b, u, content)
}

// pour writes the rest of a blob to its upload, and ends it.
func (c *copying) pour(ctx context.Context, b blob, u blobstore.Upload, content io.ReadSeeker) (damage string, err error) {
	damage, err = c.fill(ctx, b, u, content)
	if err == nil && damage == "" {
		_, err = u.Place(context.WithoutCancel(ctx), b.digest)
	}
	if err != nil && ctx.Err() != nil && b.size >= resumeFrom && u.Size() > blobstore.InMemory {
		return "", errors.Join(err, u.Save(time.Time{}), u.Close()) // the next Run goes on there
	}
	if gone := u.Discard(); gone != nil {
		c.Log.Warn("could not clear away what a blob was copied by", "digest", b.digest, "error", gone)
	}
	return damage, err
}

// fill writes what an upload lacks, and compares the digest.
func (c *copying) fill(ctx context.Context, b blob, u blobstore.Upload, content io.ReadSeeker) (damage string, err error) {
	if err := c.to.checkSpace(b.size - u.Size()); err != nil {
		return "", err
	}
	if _, err := content.Seek(u.Size(), io.SeekStart); err != nil {
		return "", fmt.Errorf("read it from byte %d: %w", u.Size(), err)
	}
	var readErr error
	source := throttle.ReaderFunc(func(p []byte) (n int, err error) {
		if n, err = content.Read(p); err != nil && !errors.Is(err, io.EOF) {
			readErr = err
		}
		return n, err
	})
	if _, err := throttle.Copy(ctx, u, io.LimitReader(source, b.size-u.Size()+1), throttle.New(0)); err != nil {
		if readErr == nil || ctx.Err() != nil {
			return "", err
		}
		return damageOf(readErr)
	}
	if u.Size() != b.size {
		return fmt.Sprintf("it has %d bytes of %d", u.Size(), b.size), nil
	}
	got, err := u.Digest(ctx, b.digest.Algorithm())
	if err == nil && got != b.digest {
		damage = "its bytes have the digest " + got.String()
	}
	return damage, err
}
