package blobs3

import (
	"bytes"
	"context"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// state is what resumes an upload: one line of JSON in an object, and after it the tail. It is
// written with one request, so that a reader never sees a part of it.
type state struct {
	Repository string    `json:"repository"`
	Started    time.Time `json:"started"`
	Offset     int64     `json:"offset"` // of the tail
	Hash       []byte    `json:"hash"`   // of the bytes before the tail
	Multipart  multipart `json:"multipart"`
	Parts      []string  `json:"parts"` // their etags
}

// usedName is the name of the metadata that tell when an upload was last used, if not now.
const usedName = "Used"

// usedAt returns when an object of an upload was last used.
func usedAt(info minio.ObjectInfo) time.Time {
	if used, err := time.Parse(time.RFC3339Nano, info.UserMetadata[usedName]); err == nil {
		return used
	}
	return info.LastModified
}

// clone returns a copy of a hash.
func clone(a digest.Algorithm, h hash.Hash) (hash.Hash, error) {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil, err
	}
	other := a.Hash()
	return other, other.(encoding.BinaryUnmarshaler).UnmarshalBinary(state)
}

// Save implements blobstore.Upload.
func (u *upload) Save(used time.Time) error {
	if err := u.landed(); err != nil {
		return err
	}
	if u.sent == nil {
		u.sent = u.algorithm().Hash()
	}
	var err error
	if u.state.Hash, err = u.sent.(encoding.BinaryMarshaler).MarshalBinary(); err != nil {
		return err
	}
	line, err := json.Marshal(u.state)
	if err != nil {
		return err
	}
	body := append(append(line, '\n'), u.tail...)
	var o minio.PutObjectOptions
	if !used.IsZero() {
		o.UserMetadata = map[string]string{usedName: used.UTC().Format(time.RFC3339Nano)}
	}
	if err := u.s.put(context.Background(), u.what("save"), u.s.state(u.id), body, o); err != nil {
		return err
	}
	u.saved = true
	return nil
}

// Forget implements blobstore.Upload.
func (u *upload) Forget() error {
	if !u.saved {
		return nil
	}
	return u.s.remove(context.Background(), u.what("remove the state of"), u.s.state(u.id))
}

// ResumeUpload implements blobstore.Uploader.
func (s *Storage) ResumeUpload(ctx context.Context, repo, id string) (blobstore.Upload, error) {
	of, tail, err := s.saved(ctx, id)
	if err != nil {
		return nil, err
	}
	if of.Repository != repo {
		return nil, fs.ErrNotExist
	}
	return s.resume(id, "", of, tail)
}

// ResumePartial implements blobstore.Uploader. The bytes before the tail are in parts, whose hash is
// that of all of them: it goes on inside of the tail.
func (s *Storage) ResumePartial(ctx context.Context, blob digest.Digest, offset int64) (blobstore.Upload, error) {
	id := blobstore.PartialID(blob)
	of, tail, err := s.saved(ctx, id)
	if err != nil {
		return nil, err
	}
	if of.Repository == blob.String() && offset > of.Offset+int64(len(tail)) {
		return nil, fs.ErrNotExist
	}
	if of.Repository != blob.String() || offset < of.Offset {
		return nil, errors.Join(fs.ErrNotExist, s.RemoveUpload(ctx, id)) // or it would be found again
	}
	return s.resume(id, blob, of, tail[:offset-of.Offset])
}

func (s *Storage) resume(id string, known digest.Digest, of state, tail []byte) (blobstore.Upload, error) {
	u := s.begun(id, known, of)
	u.saved = true
	if u.hash.(encoding.BinaryUnmarshaler).UnmarshalBinary(of.Hash) != nil {
		return nil, fs.ErrNotExist
	}
	var err error
	if u.sent, err = clone(u.algorithm(), u.hash); err != nil {
		return nil, err
	}
	u.size = of.Offset
	if err := u.takePlace(int64(len(tail))); err != nil {
		return nil, err
	}
	u.tail = tail
	u.hash.Write(tail)
	u.size += int64(len(tail))
	return u, nil
}

// saved reads the state of an upload. fs.ErrNotExist.
func (s *Storage) saved(ctx context.Context, id string) (of state, tail []byte, err error) {
	var body []byte
	what := "read upload " + id + " of " + s.Root()
	err = s.doLong(ctx, what, func(ctx context.Context) error {
		content, _, _, err := s.core.GetObject(ctx, s.address.Bucket, s.state(id), minio.GetObjectOptions{})
		if err != nil {
			return err
		}
		body, err = io.ReadAll(io.LimitReader(content, 4*partBytes))
		return errors.Join(err, content.Close())
	})
	if err != nil {
		return of, nil, err
	}
	line, tail, _ := bytes.Cut(body, []byte("\n"))
	if json.Unmarshal(line, &of) != nil {
		return of, nil, fs.ErrNotExist
	}
	return of, tail, nil
}

// PartialSize implements blobstore.Uploader.
func (s *Storage) PartialSize(ctx context.Context, blob digest.Digest) int64 {
	of, tail, err := s.saved(ctx, blobstore.PartialID(blob))
	if err != nil || of.Repository != blob.String() {
		return 0
	}
	return of.Offset + int64(len(tail))
}

// Uploads implements blobstore.Uploader. It lists states, objects that are to be copied, and parts
// without either.
func (s *Storage) Uploads(ctx context.Context) (ids []string, err error) {
	all, err := s.list(ctx, s.key("uploads")+"/", 0)
	if err != nil {
		return nil, err
	}
	for _, info := range all {
		id := strings.TrimSuffix(path.Base(info.Key), ".state")
		if blobstore.IsUploadID(id) {
			ids = append(ids, id)
		}
	}
	found := map[string][]multipart{}
	err = s.multiparts(ctx, func(m multipart) {
		if id, ok := s.uploadOf(m.Key); ok {
			found[id] = append(found[id], m)
			ids = append(ids, id)
		}
	})
	s.mu.Lock()
	s.incomplete = found
	s.mu.Unlock()
	slices.Sort(ids)
	return slices.Compact(ids), err
}

// uploadOf returns the upload whose parts go to a key.
func (s *Storage) uploadOf(key string) (id string, ok bool) {
	name := s.name(key)
	if id, ok := strings.CutPrefix(name, "uploads/"); ok {
		return id, blobstore.IsUploadID(id)
	}
	parts := strings.Split(name, "/")
	if len(parts) != 3 {
		return "", false
	}
	d := digest.NewDigestFromEncoded(digest.Algorithm(parts[0]), parts[2])
	return blobstore.PartialID(d), d.Validate() == nil && blobstore.Name(d) == name
}

// multiparts yields the multipart uploads below the prefix that are not complete.
func (s *Storage) multiparts(ctx context.Context, yield func(multipart)) error {
	prefix := s.address.Prefix
	if prefix != "" {
		prefix += "/"
	}
	key, id := "", ""
	for {
		var page minio.ListMultipartUploadsResult
		err := s.do(ctx, "list the uploads of "+s.Root(), func(ctx context.Context) (err error) {
			page, err = s.core.ListMultipartUploads(ctx, s.address.Bucket, prefix, key, id, "", 1000)
			return err
		})
		if err != nil {
			return err
		}
		for _, m := range page.Uploads {
			yield(multipart{Key: m.Key, ID: m.UploadID, initiated: m.Initiated})
		}
		if !page.IsTruncated || page.NextKeyMarker == key && page.NextUploadIDMarker == id {
			return nil
		}
		key, id = page.NextKeyMarker, page.NextUploadIDMarker
	}
}

// parts returns the multipart uploads of an upload, as of the last Uploads.
func (s *Storage) partsOf(id string) []multipart {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.incomplete[id])
}

// OldUpload implements blobstore.Uploader.
func (s *Storage) OldUpload(ctx context.Context, id string, before, _ time.Time) (size int64, old bool, err error) {
	for _, key := range []string{s.state(id), s.upload(id)} {
		info, err := s.stat(ctx, "look at upload "+id+" in "+s.Root(), key)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil || !usedAt(info).Before(before) {
			return 0, false, err
		}
		size += info.Size
	}
	for _, m := range s.partsOf(id) {
		if !m.initiated.Before(before) {
			return 0, false, nil
		}
	}
	return size, true, nil
}

// RemoveUpload implements blobstore.Uploader.
func (s *Storage) RemoveUpload(ctx context.Context, id string) error {
	parts := s.partsOf(id)
	of, _, err := s.saved(ctx, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case of.Multipart.ID != "":
		parts = append(parts, of.Multipart)
	}
	for _, m := range parts {
		if err := s.abort(ctx, m); err != nil {
			return err
		}
	}
	what := fmt.Sprintf("remove upload %s from %s", id, s.Root())
	return errors.Join(s.remove(ctx, what, s.upload(id)), s.remove(ctx, what, s.state(id)))
}

// abort removes the parts of a multipart upload, if it exists.
func (s *Storage) abort(ctx context.Context, m multipart) error {
	err := s.do(ctx, "abort the upload of "+m.Key+" to "+s.Root(), func(ctx context.Context) error {
		return s.core.AbortMultipartUpload(ctx, s.address.Bucket, m.Key, m.ID)
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
