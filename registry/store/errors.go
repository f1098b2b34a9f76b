package store

import (
	"errors"
	"fmt"
	"strings"
	"syscall"

	"github.com/opencontainers/go-digest"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// ErrNotFound is what every *NotFoundError is.
var ErrNotFound = errors.New("not found")

// NotFoundError says what is not held: Kind is blob, manifest, tag, repository, upload, run or user.
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

// FullError says that the file system of Path has no space left, or its user no quota.
type FullError struct {
	Path  string
	Short int64 // how many bytes were still to be written; 0 when nobody knows
	Err   error

	Inodes bool // it is inodes that it has none of
}

func (e *FullError) Error() string {
	if e.Inodes {
		return fmt.Sprintf("no inodes left for %s: %v", e.Path, e.Err)
	}
	if e.Short > 0 {
		return fmt.Sprintf("no space left for %s: %d bytes short: %v", e.Path, e.Short, e.Err)
	}
	return fmt.Sprintf("no space left for %s: %v", e.Path, e.Err)
}

func (e *FullError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *FullError) Hint() string {
	if e.Inodes {
		return "remove small files from the file system of " + e.Path +
			", delete images that are no longer needed and run `appliance gc`, or make the file system anew with more inodes (df -i " + e.Path + ")"
	}
	return "free space on the file system of " + e.Path +
		": delete images that are no longer needed and run `appliance gc`, or enlarge the file system (df -h " + e.Path + ")"
}

// TooManyError says that a user has as many upload sessions as there may be, all of them in use, or that all users
// together have.
type TooManyError struct{ Limit int }

func (e *TooManyError) Error() string {
	return fmt.Sprintf("%d uploads are unfinished, the most that are kept; finish or cancel some, or wait until a collection has taken the abandoned ones", e.Limit)
}

// LockedError says that another process has the store open.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return "the store is in use by another process, which holds " + e.Path
}

// Hint returns what to do next.
func (e *LockedError) Hint() string {
	return "the daemon is probably running: let the command ask it, or stop it first (systemctl stop appliance.socket appliance); `fuser " + e.Path + "` names the process"
}

// LostStorageError says that the database names blobs and that their directory is not there.
type LostStorageError struct{ Path string }

func (e *LostStorageError) Error() string {
	return "the blobs that the database names are not there: " + e.Path + " does not exist"
}

// Hint returns what to do next.
func (e *LostStorageError) Hint() string {
	return "mount the file system that has them, or restore a backup: appliance restore"
}

// LostDatabaseError says that there are blobs and no database that names them.
type LostDatabaseError struct{ Path, Storage string }

func (e *LostDatabaseError) Error() string {
	return "there is no database " + e.Path + ", and " + e.Storage + " has blobs, which a new one would not know and the first collection would remove"
}

// Hint returns what to do next.
func (e *LostDatabaseError) Hint() string {
	return "mount the file system that has the database, or restore a backup (`appliance restore`), which uses the blobs that are there; to begin anew, move " + e.Storage + " away"
}

// NewerError says that a newer version of the appliance wrote the database.
type NewerError struct {
	Path        string
	Have, Known int // schema versions
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("database %s has schema version %d, this program knows versions up to %d", e.Path, e.Have, e.Known)
}

// Hint returns what to do next.
func (e *NewerError) Hint() string {
	return "run the newer appliance that wrote it, or restore a backup that is older than the upgrade"
}

// OlderError says that an older version of the appliance wrote the database, and that it was not to be migrated.
type OlderError struct {
	Path        string
	Have, Known int // schema versions
}

func (e *OlderError) Error() string {
	return fmt.Sprintf("database %s has schema version %d, this program needs version %d", e.Path, e.Have, e.Known)
}

// Hint returns what to do next.
func (e *OlderError) Hint() string {
	return "start the registry: `appliance serve` migrates the database, after it has made a copy beside it; or use the older appliance that wrote it"
}

// NotDatabaseError says that a file is not a database of the appliance.
type NotDatabaseError struct{ Path, Why string }

func (e *NotDatabaseError) Error() string {
	return e.Path + " is not a database of the appliance: " + e.Why
}

// Hint returns what to do next.
func (e *NotDatabaseError) Hint() string {
	return "check `database:` in config.yaml; if the path is right, move the file away and restore it from a backup"
}

// full turns "no space left" and "quota exceeded" into a *FullError that names path, and leaves others alone.
func full(path string, short int64, err error) error {
	if err == nil {
		return nil
	}
	var already *FullError
	if errors.As(err, &already) {
		return err
	}
	var lite *sqlite.Error
	// The others are what a full disk is called that has no space for the index of the WAL: to make it larger, and, where
	// a file system writes what changes to another place, to change it.
	sqliteFull := errors.As(err, &lite) && (lite.Code()&0xff == sqlite3.SQLITE_FULL ||
		lite.Code() == sqlite3.SQLITE_IOERR_SHMSIZE || lite.Code() == sqlite3.SQLITE_IOERR_IN_PAGE)
	if sqliteFull || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &FullError{Path: path, Short: short, Err: err}
	}
	return err
}
