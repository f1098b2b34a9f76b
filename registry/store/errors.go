package store

import (
	"errors"
	"fmt"
	"strings"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/registry/store/guard"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// The errors of the packages below, for callers that match them.
type (
	FullError        = diskspace.FullError
	CorruptError     = sqlite.CorruptError
	LockedError      = sqlite.LockedError
	NewerError       = sqlite.NewerError
	OlderError       = sqlite.OlderError
	NotDatabaseError = sqlite.NotDatabaseError
)

// ErrNotFound is what every *NotFoundError is.
var ErrNotFound = errors.New("not found")

// NotFoundError reports what does not exist: Kind is blob, manifest, tag, repository, upload, run or user.
type NotFoundError struct{ Kind, Name string }

func (e *NotFoundError) Error() string { return fmt.Sprintf("%s %s not found", e.Kind, e.Name) }

// Is makes errors.Is(err, ErrNotFound) true.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// MissingError says which blobs a manifest names that its repository does not hold.
type MissingError struct{ Digests []digest.Digest }

func (e *MissingError) Error() string {
	names := make([]string, len(e.Digests))
	for i, d := range e.Digests {
		names[i] = d.String()
	}
	return "the manifest names blobs that are not held: " + strings.Join(names, ", ")
}

// InUseError says that a blob cannot be deleted, since a manifest of the repository is made of it.
type InUseError struct {
	Digest     digest.Digest
	Repository string
}

func (e *InUseError) Error() string {
	return fmt.Sprintf("blob %s is part of an image of %s: delete the image, and the blob goes with it", e.Digest, e.Repository)
}

// DigestError says that content does not hash to its name.
type DigestError struct{ Want, Got digest.Digest }

func (e *DigestError) Error() string {
	return fmt.Sprintf("content hashes to %s, not to %s", e.Got, e.Want)
}

// BusyError reports that another request is using an upload session.
type BusyError = guard.BusyError

// TooManyError says that a user has as many upload sessions as there may be, all of them in use, or that all users
// together have.
type TooManyError struct{ Limit int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d uploads are unfinished, the most that are kept; finish or cancel some, or wait until a collection has taken the abandoned ones", e.Limit)
}

// lostStorageError says that the database names blobs and that their directory is not there.
type lostStorageError struct{ Path string }

func (e *lostStorageError) Error() string {
	return "the blobs that the database names are not there: " + e.Path + " does not exist"
}

// Hint returns what to do next.
func (e *lostStorageError) Hint() string {
	return "mount the file system that has them, or restore a backup: appliance restore"
}

// lostDatabaseError says that there are blobs and no database that names them.
type lostDatabaseError struct{ Path, Storage string }

func (e *lostDatabaseError) Error() string {
	return "there is no database " + e.Path + ", and " + e.Storage + " has blobs, which a new one would not know and the first collection would remove"
}

// Hint returns what to do next.
func (e *lostDatabaseError) Hint() string {
	return "mount the file system that has the database, or restore a backup (`appliance restore`), which uses the blobs that are there; to begin anew, move " + e.Storage + " away"
}
