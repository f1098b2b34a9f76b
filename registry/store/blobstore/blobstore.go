// Package blobstore is what a store needs of the storage of its blobs: the interfaces that package
// blobfile implements with files, and what all implementations have in common. Package
// blobstoretest has the tests that each of them passes.
//
// A Storage knows no row: the caller decides which blob exists, which client may read it and when it
// goes. It answers from the storage itself and never from a list that may be stale: that a blob is
// missing is an answer about this blob.
//
// Refused: a path or a file in these types, which S3 does not have. A caller that needs one, such as
// the journal of small blobs, uses package blobfile.
package blobstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/throttle"
)

const (
	// ClockSlack is how far in the future a time may be.
	ClockSlack = time.Minute

	// InMemory is how many bytes an upload keeps in memory before it writes them elsewhere.
	InMemory = 64 << 10
)

// Storage has the blobs of one store. It is safe for concurrent use.
type Storage interface {
	// Blob returns a blob, whether or not it exists. Its digest is valid, except for Inspect.
	Blob(digest.Digest) Blob
	// Quarantined returns a blob in quarantine.
	Quarantined(digest.Digest) Blob
	// TidyQuarantine removes the blobs in quarantine that keep rejects.
	TidyQuarantine(ctx context.Context, keep func(digest.Digest) (bool, error)) error
	// Parts lists the parts of an algorithm, or returns fs.ErrNotExist.
	Parts(ctx context.Context, a digest.Algorithm) ([]Part, error)

	Uploader
	Notes

	// Root returns the place of the storage, for messages.
	Root() string
	// CheckSize returns a *TooLargeError unless a blob may have so many bytes.
	CheckSize(bytes int64) error
	// Spool returns the directory of this host that has the bytes of an upload while it is read, "" if that is the upload
	// itself.
	Spool() string
	// CheckMounted returns the place of the blobs of an algorithm and reports whether it has any.
	CheckMounted(ctx context.Context, a digest.Algorithm) (place string, mounted bool, err error)
	// CheckWritable returns an error unless blobs can be written.
	CheckWritable(ctx context.Context) error
	// Close closes the storage.
	Close() error
}

// Notes keeps small texts beside the blobs, each with a name: what the users of one storage need to know of each other
// though they have no database in common.
type Notes interface {
	// ReadNote returns a note and its version, or fs.ErrNotExist.
	ReadNote(ctx context.Context, name string) (text []byte, seen Version, err error)
	// WriteNote writes a note, durably, if it is the one that was seen, nil for none, and returns ErrNoteChanged else. A
	// storage that cannot compare writes it: the caller reads it back.
	WriteNote(ctx context.Context, name string, text []byte, seen Version) error
	// RemoveNote removes a note, if it exists.
	RemoveNote(ctx context.Context, name string) error
	// NotePlace tells where a note is, for messages.
	NotePlace(name string) string
}

// TooLargeError reports a blob with more bytes than the storage takes.
type TooLargeError struct {
	Place string // the storage
	Most  int64  // bytes
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("a blob in %s has %d bytes at most", e.Place, e.Most)
}

// ErrNoteChanged reports that a note is not the one that was seen.
var ErrNoteChanged = errors.New("the note was changed at the same time")

// Uploader begins uploads and removes what they left.
type Uploader interface {
	// NewUpload begins an upload for a repository.
	NewUpload(repo string, started time.Time) (Upload, error)
	// ResumeUpload opens an upload of a repository as its last Save left it. fs.ErrNotExist when
	// there is none, or not all of it.
	ResumeUpload(ctx context.Context, repo, id string) (Upload, error)

	// NewPartial begins the upload of a known blob with the id PartialID, without what an
	// interrupted one has left. No session resumes it.
	NewPartial(ctx context.Context, blob digest.Digest, started time.Time) (Upload, error)
	// PartialSize returns how many bytes of a blob an interrupted upload has left.
	PartialSize(ctx context.Context, blob digest.Digest) int64
	// ResumePartial opens the interrupted upload of a blob with its first offset bytes.
	// fs.ErrNotExist when it does not have them.
	ResumePartial(ctx context.Context, blob digest.Digest, offset int64) (Upload, error)

	// Uploads lists the uploads that are in the storage, also those of a crash, sorted.
	// fs.ErrNotExist when the place for them is missing.
	Uploads(ctx context.Context) (ids []string, err error)
	// OldUpload returns the size of an upload, and whether it was not changed since before.
	OldUpload(ctx context.Context, id string, before, now time.Time) (size int64, old bool, err error)
	// RemoveUpload removes an upload, if it exists.
	RemoveUpload(ctx context.Context, id string) error
}

// Version identifies what the name of a blob had at one moment. nil: nothing.
type Version any

// Blob is a blob, whether or not it exists.
type Blob interface {
	// Open opens the blob for reading if it has the size of its row: a shorter one would be served
	// as if it were whole. IsLoss recognizes a lost blob. It stays readable when it is removed,
	// where the storage can do that; elsewhere Read fails.
	Open(ctx context.Context, size int64) (io.ReadSeekCloser, error)
	// Check returns an error of IsLoss unless the blob exists with the size of its row.
	Check(ctx context.Context, size int64) error
	// Readable reports whether the blob can be opened.
	Readable(ctx context.Context) bool
	// Inspect compares the blob with the digest and size of its row. With a pace it reads and
	// hashes the content. An error is one of this process, such as a lack of permission, and no
	// damage.
	Inspect(ctx context.Context, size int64, p throttle.Pace) (Finding, error)
	// IsStill reports whether the blob is the one seen, or, for nil, missing.
	IsStill(ctx context.Context, seen Version) bool
	// Old returns the size of the blob and whether it was last changed before a time.
	Old(ctx context.Context, before, now time.Time) (size int64, old bool, err error)
	// Quarantine moves the blob, if it exists, to quarantine.
	Quarantine(ctx context.Context) error
	// Remove removes the blob and returns its size, or fs.ErrNotExist.
	Remove(ctx context.Context) (int64, error)
	// RemoveIf removes the blob if it is the one that Upload.Place returned.
	RemoveIf(ctx context.Context, placed Version) error
}

// Finding is the result of Blob.Inspect.
type Finding struct {
	Damage string  // how the blob differs from its row; "" if it does not
	Seen   Version // nil when it does not exist
	Read   int64   // how many bytes were read
}

// Part is the blobs with the same first digits.
type Part interface {
	// Prefix returns the beginning of the digests in the part.
	Prefix() string
	// Names lists the names in the part, sorted, also those that are not blobs.
	Names(ctx context.Context) ([]string, error)
	// Digest returns the blob of a name in the part. ok is false for a name of another program.
	Digest(name string) (blob digest.Digest, ok bool)
}

// Upload is a blob that is being written. It is not safe for concurrent use. Save makes it
// resumable.
type Upload interface {
	io.Writer
	ID() string
	Repository() string
	Started() time.Time
	// Size returns the number of bytes so far.
	Size() int64
	// Small returns the bytes while all of them are in memory, in a storage that wants small blobs
	// in the journal.
	Small() (body []byte, ok bool)
	// Path returns the name of a file of this host that has the bytes and that another process may
	// append to. An error where the storage has none.
	Path() (string, error)
	// Open opens the content for reading, also that which is written later. It stays readable after
	// Place and Discard. Its digest is not verified.
	Open() (Reader, error)
	// Save makes the content durable for ResumeUpload. used becomes its time, unless it is zero.
	Save(used time.Time) error
	// Forget removes the state, and keeps the bytes.
	Forget() error
	// Digest returns the digest of the content.
	Digest(ctx context.Context, a digest.Algorithm) (digest.Digest, error)
	// Place makes a blob of the upload, durably. The caller has compared the digest. With an error
	// it returns the new blob, if there was none before and it may exist now.
	Place(ctx context.Context, blob digest.Digest) (placed Version, err error)
	// Discard removes what the storage has of the upload and closes it.
	Discard() error
	// Close closes the upload. Bytes since Save are lost.
	Close() error
}

// Reader reads an upload.
type Reader interface {
	io.ReaderAt
	io.Closer
}

// ErrLost reports that a blob has another size than its row, or cannot be read by any process.
var ErrLost = errors.New("damaged")

// ErrUnavailable reports that a storage does not answer, or does not take requests. A client may ask
// again later.
var ErrUnavailable = errors.New("the storage of the blobs is not available")

type onceKey struct{}

// Once returns a context whose requests are made once: an answer that was lost is an error, and not
// another request while the first may still come to its end.
func Once(ctx context.Context) context.Context { return context.WithValue(ctx, onceKey{}, true) }

// IsOnce reports whether requests are made once.
func IsOnce(ctx context.Context) bool { return ctx.Value(onceKey{}) != nil }

// IsLoss reports whether an error of Blob.Open or Blob.Check proves that the blob is lost or damaged.
// A lack of permission or a storage that does not answer prove nothing.
func IsLoss(err error) bool { return errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrLost) }

// Algorithms returns the algorithms of blobs.
func Algorithms() []digest.Algorithm { return []digest.Algorithm{digest.SHA256, digest.SHA512} }

// Name returns the name of a blob in a storage or a backup, with slashes.
func Name(d digest.Digest) string {
	hex := d.Encoded()
	return path.Join(d.Algorithm().String(), hex[:2], hex)
}

// partials is the name space of PartialID. Upload sessions have random ids, which are others.
var partials = uuid.MustParse("5d4f2e0a-6c1b-4f0e-9a55-0c1d6f0c7a11")

// PartialID returns the id of the upload of a blob that is known before. It is the same in each
// process, so that what an interrupted upload has left is found again.
func PartialID(blob digest.Digest) string { return uuid.NewSHA1(partials, []byte(blob)).String() }

// IsUploadID reports whether id is one of an upload: it becomes part of a path.
func IsUploadID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}
