package blobs3

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net/http"

	"github.com/minio/minio-go/v7"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// noteBytes is the size of the largest note.
const noteBytes = 10_000

// NotePlace implements blobstore.Notes.
func (s *Storage) NotePlace(name string) string {
	return "the object " + s.key(name) + " of the bucket " + s.address.Bucket
}

// ReadNote implements blobstore.Notes. The version is an etag.
func (s *Storage) ReadNote(ctx context.Context, name string) (text []byte, seen blobstore.Version, err error) {
	err = s.do(ctx, "read "+name+" of "+s.Root(), func(ctx context.Context) error {
		content, info, _, err := s.core.GetObject(ctx, s.address.Bucket, s.key(name), minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		seen = info.ETag
		text, err = io.ReadAll(io.LimitReader(content, noteBytes))
		return errors.Join(err, content.Close())
	})
	if err != nil {
		return nil, nil, err
	}
	return text, seen, nil
}

// WriteNote implements blobstore.Notes. Servers ignore conditions that they do not know, or refuse them.
func (s *Storage) WriteNote(ctx context.Context, name string, text []byte, seen blobstore.Version) error {
	var o minio.PutObjectOptions
	if etag, ok := seen.(string); ok {
		o.SetMatchETag(etag)
	} else {
		o.SetMatchETagExcept("*")
	}
	what := "write " + name + " of " + s.Root()
	err := s.put(ctx, what, s.key(name), text, o)
	var answer minio.ErrorResponse
	switch errors.As(err, &answer); {
	case answer.StatusCode == http.StatusPreconditionFailed, answer.Code == "ConditionalRequestConflict", errors.Is(err, fs.ErrNotExist):
		return blobstore.ErrNoteChanged
	case answer.StatusCode == http.StatusNotImplemented:
		return s.put(ctx, what, s.key(name), text, minio.PutObjectOptions{})
	}
	return err
}

// RemoveNote implements blobstore.Notes.
func (s *Storage) RemoveNote(ctx context.Context, name string) error {
	return s.remove(ctx, "remove "+name+" from "+s.Root(), s.key(name))
}
