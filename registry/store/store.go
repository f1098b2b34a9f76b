// Package store keeps what the registry holds: rows in SQLite, blobs in files.
package store

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// MaxManifestBytes is the size of the largest manifest that is accepted.
const MaxManifestBytes = 4 << 20

var errUnbuilt = errors.New("not built yet")

// Options says where the store is.
type Options struct {
	Database string           // SQLite file; its directory must exist; the file is created 0600
	Storage  string           // blob root: <Storage>/sha256/<2 hex>/<hex>, <Storage>/sha512/..., <Storage>/uploads
	Now      func() time.Time // nil: time.Now
	Log      *slog.Logger     // nil: discard
}

// Store is an opened store.
type Store struct{}

// Open opens the store; *LockedError, *NewerError, *NotDatabaseError.
func Open(ctx context.Context, o Options) (*Store, error) { return nil, errUnbuilt }

// Close ends the store.
func (s *Store) Close() error { return errUnbuilt }

// ErrNotFound is what every *NotFoundError is.
var ErrNotFound = errors.New("not found")

// NotFoundError says what is not held.
type NotFoundError struct{ Kind, Name string }

func (e *NotFoundError) Error() string        { return e.Kind + " " + e.Name + " is not held" }
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// MissingError says which blobs a manifest names that are not held.
type MissingError struct{ Digests []digest.Digest }

func (e *MissingError) Error() string { return "missing" }

// DigestError says that content does not hash to its name.
type DigestError struct{ Want, Got digest.Digest }

func (e *DigestError) Error() string { return "digest" }

// InvalidError says what is malformed, and why.
type InvalidError struct{ What, Why string }

func (e *InvalidError) Error() string { return e.What + ": " + e.Why }

// FullError says that a disk is full. Short is how many bytes are still to be written, 0 if unknown.
type FullError struct {
	Path  string
	Short int64
	Err   error
}

func (e *FullError) Error() string { return "full" }
func (e *FullError) Unwrap() error { return e.Err }
func (e *FullError) Hint() string  { return "" }

// LockedError says that another process has the store.
type LockedError struct{ Path string }

func (e *LockedError) Error() string { return "locked" }
func (e *LockedError) Hint() string  { return "" }

// NewerError says that the database was written by a newer version.
type NewerError struct {
	Path        string
	Have, Known int
}

func (e *NewerError) Error() string { return "newer" }
func (e *NewerError) Hint() string  { return "" }

// NotDatabaseError says that a file is not a database of ours.
type NotDatabaseError struct{ Path, Why string }

func (e *NotDatabaseError) Error() string { return "not a database" }
func (e *NotDatabaseError) Hint() string  { return "" }

// BusyError says that an upload session is in use by another request.
type BusyError struct{ ID string }

func (e *BusyError) Error() string { return "busy" }

// Manifest is a manifest as it was pushed.
type Manifest struct {
	Digest                  digest.Digest
	MediaType, ArtifactType string
	Subject                 digest.Digest // "" if none
	Annotations             map[string]string
	Body                    []byte
	Created                 time.Time
}

// Descriptor describes the manifest as referrers lists do.
func (m Manifest) Descriptor() ocispec.Descriptor { return ocispec.Descriptor{} }

// PutOptions says what a manifest is put as.
type PutOptions struct {
	MediaType string
	Digest    digest.Digest // "": sha256 of the body
	Tags      []string
}

func (s *Store) Manifest(ctx context.Context, repo string, d digest.Digest) (Manifest, error) {
	return Manifest{}, errUnbuilt
}
func (s *Store) ManifestByTag(ctx context.Context, repo, tag string) (Manifest, error) {
	return Manifest{}, errUnbuilt
}

// Tags lists the tags after last in byte order, at most n (n<0: all). ErrNotFound: unknown repository.
func (s *Store) Tags(ctx context.Context, repo, last string, n int) (tags []string, more bool, err error) {
	return nil, false, errUnbuilt
}

// Repositories lists the repositories that hold a manifest.
func (s *Store) Repositories(ctx context.Context, last string, n int) (names []string, more bool, err error) {
	return nil, false, errUnbuilt
}

// Referrers lists the manifests of repo whose subject it is; never nil, empty for an unknown repository.
func (s *Store) Referrers(ctx context.Context, repo string, subject digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	return nil, errUnbuilt
}

// PutManifest puts a manifest and its tags in one transaction. *InvalidError, *DigestError, *MissingError, *FullError.
func (s *Store) PutManifest(ctx context.Context, repo string, body []byte, o PutOptions) (Manifest, error) {
	return Manifest{}, errUnbuilt
}

// DeleteManifest takes the manifest, and the tags that name it, out of repo.
func (s *Store) DeleteManifest(ctx context.Context, repo string, d digest.Digest) error {
	return errUnbuilt
}
func (s *Store) DeleteTag(ctx context.Context, repo, tag string) error { return errUnbuilt }

// StatBlob counts as a recent check: it protects the blob from gc.
func (s *Store) StatBlob(ctx context.Context, repo string, d digest.Digest) (size int64, err error) {
	return 0, errUnbuilt
}

// Blob is an opened blob, read only.
type Blob struct {
	*os.File
	Size int64
}

func (s *Store) OpenBlob(ctx context.Context, repo string, d digest.Digest) (*Blob, error) {
	return nil, errUnbuilt
}

// MountBlob makes a blob of from (from "": held anywhere) visible in repo.
func (s *Store) MountBlob(ctx context.Context, repo, from string, d digest.Digest) (size int64, err error) {
	return 0, errUnbuilt
}
func (s *Store) DeleteBlob(ctx context.Context, repo string, d digest.Digest) error {
	return errUnbuilt
}
func (s *Store) NewUpload(ctx context.Context, repo string) (*Upload, error) { return nil, errUnbuilt }

// ResumeUpload takes up a session; it survives a restart. Waits for the request that has it; *BusyError if that takes too long.
func (s *Store) ResumeUpload(ctx context.Context, repo, id string) (*Upload, error) {
	return nil, errUnbuilt
}

// Upload is an upload session, held until Close, Commit or Cancel.
type Upload struct{}

func (u *Upload) ID() string                                                 { return "" }
func (u *Upload) Size() int64                                                { return 0 }
func (u *Upload) StartedAt() time.Time                                       { return time.Time{} }
func (u *Upload) Write(p []byte) (int, error)                                { return 0, errUnbuilt }
func (u *Upload) ReadFrom(r io.Reader) (int64, error)                        { return 0, errUnbuilt }
func (u *Upload) Close() error                                               { return errUnbuilt }
func (u *Upload) Commit(ctx context.Context, d digest.Digest) (int64, error) { return 0, errUnbuilt }
func (u *Upload) Cancel(ctx context.Context) error                           { return errUnbuilt }
func (s *Store) Secret(ctx context.Context, name string) ([]byte, error)     { return nil, errUnbuilt }

// Stats counts what is held.
type Stats struct {
	Repositories, Manifests, Tags, Blobs, BlobBytes, Users int64
}

func (s *Store) Stats(ctx context.Context) (Stats, error) { return Stats{}, errUnbuilt }

// Check says for "database" and "storage" whether they answer; nil is healthy.
func (s *Store) Check(ctx context.Context) map[string]error { return nil }

// User is an account.
type User struct {
	Name, Role       string
	PasswordHash     []byte
	Created, Updated time.Time // set by the store
}

func (s *Store) User(ctx context.Context, name string) (User, error) { return User{}, errUnbuilt }
func (s *Store) Users(ctx context.Context) ([]User, error)           { return nil, errUnbuilt }
func (s *Store) PutUser(ctx context.Context, u User) error           { return errUnbuilt }
func (s *Store) DeleteUser(ctx context.Context, name string) error   { return errUnbuilt }

func (s *Store) BeginRun(ctx context.Context, name string) (*Run, error) { return nil, errUnbuilt }
func (s *Store) Run(ctx context.Context, id string) (*Run, error)        { return nil, errUnbuilt }

// Run is a staged sync: what it puts is pinned against gc and invisible until Commit, which is one transaction.
type Run struct{}

func (r *Run) ID() string { return "" }
func (r *Run) HasBlob(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	return false, errUnbuilt
}
func (r *Run) PutBlob(ctx context.Context, repo string, desc ocispec.Descriptor, rd io.Reader) error {
	return errUnbuilt
}
func (r *Run) HasManifest(ctx context.Context, repo string, d digest.Digest) (bool, error) {
	return false, errUnbuilt
}
func (r *Run) PutManifest(ctx context.Context, repo string, desc ocispec.Descriptor, body []byte) error {
	return errUnbuilt
}
func (r *Run) Tag(ctx context.Context, repo, tag string, d digest.Digest) error { return errUnbuilt }
func (r *Run) Commit(ctx context.Context) error                                 { return errUnbuilt }
func (r *Run) Abort(ctx context.Context) error                                  { return errUnbuilt }

func (s *Store) TagChecked(ctx context.Context, repo, tag string) (time.Time, error) {
	return time.Time{}, errUnbuilt
}
func (s *Store) SetTagChecked(ctx context.Context, repo, tag string, t time.Time) error {
	return errUnbuilt
}

func (s *Store) GarbageBlobs(ctx context.Context, before time.Time, yield func(d digest.Digest, size int64) error) error {
	return errUnbuilt
}
func (s *Store) RemoveBlobs(ctx context.Context, before time.Time, ds []digest.Digest) (removed int, bytes int64, err error) {
	return 0, 0, errUnbuilt
}
func (s *Store) StaleUploads(ctx context.Context, before time.Time, yield func(id string, size int64) error) error {
	return errUnbuilt
}
func (s *Store) RemoveUpload(ctx context.Context, before time.Time, id string) (bytes int64, err error) {
	return 0, errUnbuilt
}
func (s *Store) StaleRuns(ctx context.Context, before time.Time, yield func(id string) error) error {
	return errUnbuilt
}
func (s *Store) RemoveRun(ctx context.Context, before time.Time, id string) error { return errUnbuilt }
