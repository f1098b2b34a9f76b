package oci

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"

	"github.com/distribution/distribution/v3"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/registry/store"
)

// unsupported is what the App would use to read blobs. The front handler does that.
type unsupported struct{}

func (unsupported) Enumerate(context.Context, func(digest.Digest) error) error {
	return distribution.ErrUnsupported
}

func (unsupported) Stat(context.Context, digest.Digest) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, distribution.ErrUnsupported
}

func (unsupported) Get(context.Context, digest.Digest) ([]byte, error) {
	return nil, distribution.ErrUnsupported
}

func (unsupported) Open(context.Context, digest.Digest) (io.ReadSeekCloser, error) {
	return nil, distribution.ErrUnsupported
}

func (unsupported) Put(context.Context, string, []byte) (ocispec.Descriptor, error) {
	return ocispec.Descriptor{}, distribution.ErrUnsupported
}

func (unsupported) ServeBlob(context.Context, http.ResponseWriter, *http.Request, digest.Digest) error {
	return distribution.ErrUnsupported
}

// blobs takes uploads of one repository, mounts and deletes.
type blobs struct {
	unsupported
	*repository
}

// Create begins an upload. Mounts are the front handler's.
func (b *blobs) Create(ctx context.Context, _ ...distribution.BlobCreateOption) (distribution.BlobWriter, error) {
	x := exchangeFrom(ctx)
	upload, err := b.store.NewUpload(ctx, b.name.Name())
	if err != nil {
		return nil, x.fail(aboutUpload, fmt.Errorf("begin upload: %w", err))
	}
	x.upload = upload
	return &writer{Upload: upload, x: x}, nil
}

// Resume takes up a session. A chunk that begins elsewhere than where the session stands is refused here: the
// App would look at Content-Range only of requests that have a Content-Length, and know one of its two forms.
func (b *blobs) Resume(ctx context.Context, id string) (distribution.BlobWriter, error) {
	x := exchangeFrom(ctx)
	upload, err := b.store.ResumeUpload(ctx, b.name.Name(), id)
	if errors.Is(err, store.ErrNotFound) {
		return nil, distribution.ErrBlobUploadUnknown
	}
	if err != nil {
		return nil, x.fail(aboutUpload, fmt.Errorf("resume upload: %w", err))
	}
	x.upload = upload
	if x.start != nil && *x.start != upload.Size() {
		return nil, x.fail(aboutUpload, errRange(
			fmt.Sprintf("the upload stands at %d bytes, the chunk begins at %d", upload.Size(), *x.start), upload.Size()))
	}
	return &writer{Upload: upload, x: x}, nil
}

func (b *blobs) Delete(ctx context.Context, d digest.Digest) error {
	err := b.store.DeleteBlob(ctx, b.name.Name(), d)
	if errors.Is(err, store.ErrNotFound) {
		return distribution.ErrBlobUnknown
	}
	if err != nil {
		return exchangeFrom(ctx).fail(aboutBlob, fmt.Errorf("delete blob: %w", err))
	}
	exchangeFrom(ctx).changed(change{event: "delete blob", repo: b.name.Name(), digest: d})
	return nil
}

// writer is an upload session that notes what goes wrong.
type writer struct {
	*store.Upload
	x *exchange
}

func (w *writer) Write(p []byte) (int, error) {
	n, err := w.Upload.Write(p)
	w.broken(err)
	return n, err
}

func (w *writer) ReadFrom(r io.Reader) (int64, error) {
	n, err := w.Upload.ReadFrom(r)
	w.broken(err)
	return n, err
}

// broken notes an error. If the disk is full the session goes as well: kept to be resumed, what has
// arrived would hold the space that a delete or a collection needs to make room.
func (w *writer) broken(err error) {
	if err == nil {
		return
	}
	w.x.fail(aboutUpload, err)
	var full *store.FullError
	if errors.As(err, &full) {
		w.Cancel(context.Background()) // two files to remove, for a client that may be gone
	}
}

// Close makes what was written so far durable. The App does not look at its error, and would tell the
// client that bytes are held which are not.
func (w *writer) Close() error {
	err := w.Upload.Close()
	if err != nil {
		w.x.fail(aboutUpload, fmt.Errorf("close upload: %w", err))
	}
	return err
}

func (w *writer) Commit(ctx context.Context, want ocispec.Descriptor) (ocispec.Descriptor, error) {
	size, err := w.Upload.Commit(ctx, want.Digest)
	if err != nil {
		return ocispec.Descriptor{}, w.x.fail(words{absent: codeUploadUnknown, invalid: codeDigestInvalid}, err)
	}
	return ocispec.Descriptor{MediaType: octetStream, Digest: want.Digest, Size: size}, nil
}

func (w *writer) Cancel(ctx context.Context) error {
	err := w.Upload.Cancel(ctx)
	if err != nil {
		w.x.fail(aboutUpload, fmt.Errorf("cancel upload: %w", err))
	}
	return err
}
