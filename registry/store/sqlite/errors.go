package sqlite

import (
	"errors"
	"fmt"
	"io/fs"

	modernc "modernc.org/sqlite"
	code "modernc.org/sqlite/lib"

	"github.com/mirror-appliance/appliance/internal/diskspace"
)

// CorruptError says that SQLite cannot read or write its own file, and not for want of space.
type CorruptError struct {
	Path string
	Err  error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("database %s is damaged: %v", e.Path, e.Err)
}
func (e *CorruptError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *CorruptError) Hint() string {
	return "`appliance verify` says what is damaged; then stop the daemon, move the database file away and restore a backup (`appliance restore`); mind what dmesg says of the disk"
}

// DiskError says that the disk has failed to read, write or sync the database. Its content may be whole. The write under
// way is refused; what was acknowledged before is on disk.
type DiskError struct {
	Path string
	Err  error
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("the disk of database %s has failed: %v", e.Path, e.Err)
}
func (e *DiskError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *DiskError) Hint() string {
	return "try again; if it goes on, see whether the file system has space (df -h " + e.Path + ") and what dmesg says of the disk; leave the database where it is"
}

// LockedError says that another process has the database open.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return "the store is in use by another process, which holds " + e.Path
}

// Hint returns what to do next.
func (e *LockedError) Hint() string {
	return "the daemon is probably running: let the command ask it, or stop it first (systemctl stop appliance.socket appliance); `fuser " + e.Path + "` names the process"
}

// IrregularError says that there is something other than a file in the place of one beside the database.
type IrregularError struct {
	Path string
	Mode fs.FileMode
}

func (e *IrregularError) Error() string {
	return fmt.Sprintf("%s is not a regular file (%s)", e.Path, e.Mode)
}

// Hint returns what to do next.
func (e *IrregularError) Hint() string {
	return "find out what made it, and move it away: the registry makes its own file there"
}

// NewerError says that a newer version of the program wrote the database.
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

// OlderError says that an older version of the program wrote the database, and that it was not to be migrated.
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

// NotDatabaseError says that a file is not a database of the application.
type NotDatabaseError struct{ Path, Reason string }

func (e *NotDatabaseError) Error() string {
	return e.Path + " is not a database of the appliance: " + e.Reason
}

// Hint returns what to do next.
func (e *NotDatabaseError) Hint() string {
	return "check `database:` in config.yaml; if the path is right, move the file away and restore it from a backup"
}

// Damage returns the part of err that says that SQLite has found its file damaged, and nil if there is none. A read or
// a sync that fails is not damage: the next one may succeed, see DiskError.
func Damage(err error) error {
	var lite *modernc.Error
	if !errors.As(err, &lite) {
		return nil
	}
	if c := lite.Code(); c&0xff == code.SQLITE_CORRUPT || c&0xff == code.SQLITE_NOTADB || c == code.SQLITE_IOERR_CORRUPTFS {
		return lite
	}
	return nil
}

// typed maps an error of SQLite to the error type of the database at path. Other errors stay as they are.
func typed(path string, err error) error {
	var lite *modernc.Error
	if !errors.As(err, &lite) {
		return err
	}
	if Damage(err) != nil {
		return &CorruptError{Path: path, Err: err}
	}
	switch lite.Code() {
	case code.SQLITE_IOERR_SHMSIZE, code.SQLITE_IOERR_IN_PAGE:
		// The disk has no space for the index of the WAL: to make it larger, and, where a file system writes what changes
		// to another place, to change it.
		return &diskspace.FullError{Path: path, Err: err}
	case code.SQLITE_IOERR_WRITE, code.SQLITE_IOERR_NOMEM: // which a quota that is used up explains, too
		return err
	}
	switch lite.Code() & 0xff {
	case code.SQLITE_FULL:
		return &diskspace.FullError{Path: path, Err: err}
	case code.SQLITE_IOERR:
		return &DiskError{Path: path, Err: err}
	}
	return err
}
