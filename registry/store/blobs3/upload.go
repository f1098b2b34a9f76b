package blobs3

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // the checksum of a part, which all servers of S3 compare
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/minio/minio-go/v7"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

// saveEvery is after how many parts the state of a known blob is saved: no more is sent again after
// a crash.
const saveEvery = 8

// upload is a blob that is being written. Its bytes are those of the parts that were sent, of one
// that is being sent, and of the tail.
type upload struct {
	s      *Storage
	id     string
	known  digest.Digest // "" for an upload whose digest comes at the end
	state  state
	hash   hash.Hash  // of all bytes so far: sha256, or the algorithm of a known blob
	sent   hash.Hash  // of the bytes before the tail, for the state; nil without parts
	tail   []byte     // the last bytes, no more than partBytes
	flight chan error // of the part that is being sent; nil if there is none
	spare  []byte     // the buffer of the part before
	placed bool       // it has a place among those that have parts in memory
	saved  bool       // there is a state in the storage
	spool  *os.File   // of the bytes for readers, without a name; nil without readers
	size   int64
	broken error // of a part: which bytes the storage has is unknown from then on
}

// NewUpload implements blobstore.Uploader.
func (s *Storage) NewUpload(repo string, started time.Time) (blobstore.Upload, error) {
	id, err := uuid.NewRandom()
	if err != nil {
		return nil, err
	}
	return s.begun(id.String(), "", state{Repository: repo, Started: started}), nil
}

// BeginUpload is NewUpload for a session that has its id already, and has received nothing.
func (s *Storage) BeginUpload(id, repo string, started time.Time) blobstore.Upload {
	return s.begun(id, "", state{Repository: repo, Started: started})
}

// NewPartial implements blobstore.Uploader.
func (s *Storage) NewPartial(ctx context.Context, blob digest.Digest, started time.Time) (blobstore.Upload, error) {
	id := blobstore.PartialID(blob)
	if err := s.RemoveUpload(ctx, id); err != nil {
		return nil, err
	}
	return s.begun(id, blob, state{Repository: blob.String(), Started: started}), nil
}

func (s *Storage) begun(id string, known digest.Digest, of state) *upload {
	u := &upload{s: s, id: id, known: known, state: of}
	u.hash = u.algorithm().Hash()
	return u
}

func (u *upload) algorithm() digest.Algorithm {
	if u.known != "" {
		return u.known.Algorithm()
	}
	return digest.SHA256
}

// ID implements blobstore.Upload, as do the methods below.
func (u *upload) ID() string { return u.id }

func (u *upload) Repository() string { return u.state.Repository }

func (u *upload) Started() time.Time { return u.state.Started }

func (u *upload) Size() int64 { return u.size }

func (u *upload) Small() (body []byte, ok bool) { return nil, false }

func (u *upload) Path() (string, error) {
	return "", errors.New("uploads to " + u.s.Root() + " have no file on this host")
}

func (u *upload) what(step string) string {
	return step + " upload " + u.id + " to " + u.s.Root()
}

// Write keeps at least one byte: what is sent is a part that is not the last, and a resumption can
// go on inside of the tail.
func (u *upload) Write(p []byte) (n int, err error) {
	if u.broken != nil {
		return 0, u.broken
	}
	if err := u.s.CheckSize(u.size + int64(len(p))); err != nil {
		return 0, fmt.Errorf("write upload: %w", err)
	}
	if err := u.takePlace(u.size + int64(len(p))); err != nil {
		return 0, err
	}
	for len(p) > 0 {
		if len(u.tail) == partBytes {
			if err := u.send(); err != nil {
				return n, err
			}
		}
		chunk := p[:min(len(p), partBytes-len(u.tail))]
		if u.spool != nil {
			if _, err := u.spool.WriteAt(chunk, u.size); err != nil {
				return n, diskspace.Full(u.s.Spool(), 0, fmt.Errorf("keep bytes for the readers of a download: %w", err))
			}
		}
		u.tail = append(u.tail, chunk...)
		u.hash.Write(chunk)
		u.size += int64(len(chunk))
		n, p = n+len(chunk), p[len(chunk):]
	}
	return n, nil
}

// takePlace waits for a place among the uploads that have parts in memory. Those with few bytes need
// none.
func (u *upload) takePlace(size int64) error {
	if u.placed || size <= blobstore.InMemory {
		return nil
	}
	timer := time.NewTimer(shortTime)
	defer timer.Stop()
	select {
	case u.s.places <- struct{}{}:
		u.placed = true
		return nil
	case <-timer.C:
		return &requestError{What: u.what("continue"), Err: fmt.Errorf("%d other uploads are being sent, the most that memory is kept for", sending),
			hint: hintWait, unavailable: true}
	}
}

func (u *upload) leavePlace() {
	if u.placed {
		<-u.s.places
		u.placed = false
	}
	u.tail, u.spare = nil, nil
}

// send begins to send the tail as the next part, once the part before has been sent.
func (u *upload) send() error {
	if err := u.landed(); err != nil {
		return err
	}
	if err := u.beginParts(); err != nil {
		return err
	}
	body := u.tail
	number := len(u.state.Parts) + 1
	u.flight = make(chan error, 1)
	flight := u.flight
	u.state.Parts = append(u.state.Parts, "")
	etag := &u.state.Parts[number-1]
	go func() {
		var err error
		*etag, err = u.sendPart(context.Background(), number, body)
		flight <- err
	}()
	var err error
	if u.sent, err = clone(u.algorithm(), u.hash); err != nil {
		return err
	}
	u.state.Offset = u.size
	u.tail, u.spare = u.spare[:0], body
	if u.known != "" && number%saveEvery == 0 {
		return u.Save(time.Time{})
	}
	return nil
}

// landed waits for the part that is being sent.
func (u *upload) landed() error {
	if u.flight != nil {
		u.broken = <-u.flight
		u.flight = nil
	}
	return u.broken
}

func (u *upload) beginParts() error {
	if u.state.Multipart.ID != "" {
		return nil
	}
	key := u.s.upload(u.id)
	if u.known != "" {
		key = u.s.key(blobstore.Name(u.known))
	}
	meta := written()
	u.broken = u.s.do(context.Background(), u.what("begin"), func(ctx context.Context) error {
		id, err := u.s.core.NewMultipartUpload(ctx, u.s.address.Bucket, key, meta)
		if err == nil {
			u.state.Multipart = multipart{Key: key, ID: id}
		}
		return err
	})
	return u.broken
}

func (u *upload) sendPart(ctx context.Context, number int, body []byte) (etag string, err error) {
	sum := checksum(body)
	err = u.s.doLong(ctx, u.what(fmt.Sprintf("send part %d of", number)), func(ctx context.Context) error {
		part, err := u.s.core.PutObjectPart(ctx, u.s.address.Bucket, u.state.Multipart.Key, u.state.Multipart.ID, number,
			bytes.NewReader(body), int64(len(body)), minio.PutObjectPartOptions{Md5Base64: sum})
		etag = part.ETag
		return err
	})
	return etag, err
}

func checksum(body []byte) string {
	sum := md5.Sum(body) //nolint:gosec // see the import
	return base64.StdEncoding.EncodeToString(sum[:])
}

// put writes a small object.
func (s *Storage) put(ctx context.Context, what, key string, body []byte, o minio.PutObjectOptions) error {
	sum := checksum(body)
	return s.doLong(ctx, what, func(ctx context.Context) error {
		_, err := s.core.PutObject(ctx, s.address.Bucket, key, bytes.NewReader(body), int64(len(body)), sum, "", o)
		return err
	})
}

// Open implements blobstore.Upload. S3 does not serve the parts of an upload under way: the bytes
// for readers are in a file without a name until the last reader has closed it.
func (u *upload) Open() (blobstore.Reader, error) {
	if u.spool == nil {
		if u.size > 0 {
			return nil, errors.New(u.what("read") + ": its first bytes were sent before")
		}
		file, err := os.CreateTemp(u.s.Spool(), "appliance-download-")
		if err != nil {
			return nil, fmt.Errorf("make room for the readers of a download: %w", err)
		}
		if err := os.Remove(file.Name()); err != nil {
			return nil, errors.Join(err, file.Close())
		}
		u.spool = file
	}
	return os.Open(fmt.Sprintf("/proc/self/fd/%d", u.spool.Fd()))
}

// Digest implements blobstore.Upload. A digest of another algorithm than that of the upload reads
// all of it again.
func (u *upload) Digest(ctx context.Context, a digest.Algorithm) (digest.Digest, error) {
	if a == u.algorithm() {
		return digest.NewDigest(a, u.hash), nil
	}
	if len(u.state.Parts) == 0 {
		return a.FromBytes(u.tail), nil
	}
	if err := u.complete(ctx); err != nil {
		return "", err
	}
	h := a.Hash()
	content := &reader{blob: blob{u.s, "", u.state.Multipart.Key}, ctx: ctx, size: u.size}
	_, err := throttle.Copy(ctx, h, content, throttle.New(0))
	if err := errors.Join(err, content.Close()); err != nil {
		return "", err
	}
	return digest.NewDigest(a, h), nil
}

// Place implements blobstore.Upload.
func (u *upload) Place(ctx context.Context, d digest.Digest) (blobstore.Version, error) {
	if u.known != "" && d != u.known {
		return nil, fmt.Errorf("place upload of %s as %s: %w", u.known, d, fs.ErrInvalid)
	}
	to := u.s.key(blobstore.Name(d))
	if u.broken != nil {
		return nil, u.broken
	}
	if len(u.state.Parts) == 0 {
		return nil, u.s.put(ctx, "write blob "+d.String()+" to "+u.s.Root(), to, u.tail, written())
	}
	if u.known != "" && u.state.Multipart.ID == "" { // it was placed, and the object may have been removed since
		return nil, u.s.hasSize(ctx, to, u.size)
	}
	if err := u.complete(ctx); err != nil || u.known != "" {
		return nil, err
	}
	err := u.s.copy(ctx, "place blob "+d.String()+" in "+u.s.Root(), u.state.Multipart.Key, to, u.size)
	if err == nil {
		err = u.s.hasSize(ctx, to, u.size)
	}
	return nil, err
}

// complete makes an object of the parts, once.
func (u *upload) complete(ctx context.Context) error {
	if u.state.Multipart.ID == "" { // it was completed
		return nil
	}
	if err := u.landed(); err != nil {
		return err
	}
	number := len(u.state.Parts) + 1
	etag, err := u.sendPart(ctx, number, u.tail)
	if err != nil {
		return err
	}
	parts := make([]minio.CompletePart, 0, number)
	for i, etag := range append(u.state.Parts[:number-1:number-1], etag) {
		parts = append(parts, minio.CompletePart{PartNumber: i + 1, ETag: etag})
	}
	key, id := u.state.Multipart.Key, u.state.Multipart.ID
	err = u.s.doWork(ctx, u.what("complete"), func(ctx context.Context) error {
		_, err := u.s.core.CompleteMultipartUpload(ctx, u.s.address.Bucket, key, id, parts, minio.PutObjectOptions{})
		return err
	})
	// The answer may have been lost: then the upload does not exist, and the object of these parts does.
	if err != nil && (!errors.Is(err, fs.ErrNotExist) || !u.s.isOf(ctx, key, parts)) {
		return err
	}
	u.state.Multipart.ID = ""
	return u.s.hasSize(ctx, key, u.size)
}

// hasSize returns an error unless an object has a size: no part of it may be missing.
func (s *Storage) hasSize(ctx context.Context, key string, size int64) error {
	info, err := s.stat(ctx, "look at "+key+" in "+s.Root(), key)
	if err == nil && info.Size != size {
		err = fmt.Errorf("%s in %s has %d bytes of the %d that were sent", key, s.Root(), info.Size, size)
	}
	return err
}

// isOf reports whether an object was made of parts: its etag is that of theirs.
func (s *Storage) isOf(ctx context.Context, key string, parts []minio.CompletePart) bool {
	h := md5.New() //nolint:gosec // see the import
	for _, p := range parts {
		sum, err := hex.DecodeString(strings.Trim(p.ETag, `"`))
		if err != nil {
			return false
		}
		h.Write(sum)
	}
	info, err := s.stat(ctx, "look at "+key+" in "+s.Root(), key)
	return err == nil && strings.Trim(info.ETag, `"`) == fmt.Sprintf("%x-%d", h.Sum(nil), len(parts))
}

// Discard implements blobstore.Upload.
func (u *upload) Discard() error {
	ctx := context.Background()
	_ = u.landed() // its error says nothing any more
	err := u.Forget()
	m := u.state.Multipart
	if m.ID != "" {
		err = errors.Join(err, u.s.abort(ctx, m))
	} else if m.Key == u.s.upload(u.id) {
		err = errors.Join(err, u.s.remove(ctx, u.what("remove"), m.Key))
	}
	return errors.Join(err, u.Close())
}

// Close implements blobstore.Upload.
func (u *upload) Close() error {
	_ = u.landed() // what was not saved is lost
	u.leavePlace()
	if u.spool != nil {
		err := u.spool.Close()
		u.spool = nil
		return err
	}
	return nil
}
