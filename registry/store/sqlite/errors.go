package sqlite

import (
	"errors"
	"fmt"

	modernc "modernc.org/sqlite"
	code "modernc.org/sqlite/lib"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// writeError reports that the file of the database cannot be written, while it can be read. What was
// acknowledged is on disk.
type writeError struct {
	path string
	err  error
}

func (e *writeError) Error() string {
	return fmt.Sprintf("database %s cannot be written: %v", e.path, e.err)
}
func (e *writeError) Unwrap() error { return e.err }

// Hint returns the next step.
func (e *writeError) Hint() string {
	return "see whether its file system is read-only (findmnt -T " + e.path + "), whether a quota of its user is used up, and what dmesg says of the disk; what is stored can be pulled"
}

// Damage returns the part of err that reports damage of the file, or nil. A failed read or sync is
// not damage, see DiskError.
func Damage(err error) error {
	var lite *modernc.Error
	if !errors.As(err, &lite) {
		return nil
	}
	if c := lite.Code(); c&0xff == code.SQLITE_CORRUPT || c&0xff == code.SQLITE_NOTADB ||
		c == code.SQLITE_IOERR_CORRUPTFS {
		return lite
	}
	return nil
}

// typed returns an error of SQLite as an error type of the database at path. Other errors stay as
// they are.
func typed(path string, err error) error {
	var lite *modernc.Error
	if !errors.As(err, &lite) {
		return err
	}
	if Damage(err) != nil {
		return &database.CorruptError{Path: path, Err: err}
	}
	switch lite.Code() {
	case code.SQLITE_IOERR_SHMSIZE, code.SQLITE_IOERR_IN_PAGE:
		// The disk has no space for the index of the WAL: to make it larger, and, where a file
		// system writes what changes to another place, to change it.
		return &diskspace.FullError{Path: path, Err: err}
	case code.SQLITE_IOERR_WRITE: // which a quota that is used up explains, too
		return &writeError{path, err}
	case code.SQLITE_IOERR_NOMEM:
		return err
	}
	switch lite.Code() & 0xff {
	case code.SQLITE_FULL:
		return &diskspace.FullError{Path: path, Err: err}
	case code.SQLITE_READONLY:
		return &writeError{path, err}
	case code.SQLITE_IOERR:
		return &database.DiskError{Path: path, Err: err}
	}
	return err
}

// DamageIn is Damage.
func (db *DB) DamageIn(err error) error { return Damage(err) }
