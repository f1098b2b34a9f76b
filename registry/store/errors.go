package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
	"github.com/mirror-appliance/appliance/registry/store/leases"
)

// The errors of the packages below, for callers that match them.
type (
	FullError        = diskspace.FullError
	TooLargeError    = blobstore.TooLargeError
	CorruptError     = database.CorruptError
	LockedError      = database.LockedError
	SchemaError      = database.SchemaError
	NotDatabaseError = database.NotDatabaseError
	UnavailableError = database.UnavailableError
	RemovingError    = leases.RemovingError
)

// ErrUnavailable reports that the storage of the blobs does not answer: a client may ask again.
var ErrUnavailable = blobstore.ErrUnavailable

// ErrNotFound matches every *NotFoundError.
var ErrNotFound = errors.New("not found")

// NotFoundError reports that a blob, manifest, tag, repository, upload, run or user does not exist.
type NotFoundError struct{ Kind, Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s %s not found", e.Kind, e.Name) }

// Is makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// MissingError reports blobs of a manifest that do not exist in its repository.
type MissingError struct{ Digests []digest.Digest }

func (e *MissingError) Error() string {
	names := make([]string, len(e.Digests))
	for i, d := range e.Digests {
		names[i] = d.String()
	}
	return "the manifest refers to blobs that do not exist in its repository: " + strings.Join(names, ", ")
}

// InUseError reports that a manifest of the repository refers to a blob, which cannot be deleted.
type InUseError struct {
	Digest     digest.Digest
	Repository string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("blob %s is part of an image of %s: delete the image, and the blob goes with it", e.Digest, e.Repository)
}

// DigestError reports content with another digest than its name.
type DigestError struct{ Want, Got digest.Digest }

// Mismatch says that the content is another.
func (e *DigestError) Mismatch() bool { return true }

func (e *DigestError) Error() string {
	return fmt.Sprintf("content hashes to %s, not to %s", e.Got, e.Want)
}

// PartialError reports that the store does not have so many bytes of a blob: it was put meanwhile,
// or collected.
type PartialError struct {
	Digest digest.Digest
	Offset int64
}

func (e *PartialError) Error() string {
	return fmt.Sprintf("the first %d bytes of blob %s are not here any more", e.Offset, e.Digest)
}

// BusyError reports that another request is using an upload session.
type BusyError = guard.BusyError

// TooManyError reports that the upload sessions of a user, or of all users, are at their limit and
// in use.
type TooManyError struct{ Limit int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d uploads are unfinished, which is the limit; finish or cancel some, or wait until a collection has removed the abandoned ones", e.Limit)
}

// InvalidError reports a malformed name, manifest or option.
type InvalidError = image.InvalidError

func checkRepositoryAndDigest(repo string, d digest.Digest) error {
	if err := image.CheckRepository(repo); err != nil {
		return err
	}
	return image.CheckDigest(d)
}

func invalidManifest(format string, args ...any) error {
	return &InvalidError{What: "manifest", Reason: fmt.Sprintf(format, args...)}
}
