package database

import (
	"fmt"
)

// CorruptError reports that the database is damaged.
type CorruptError struct {
	Path string
	Err  error
	Next string // the next step; "": that of a file
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("database %s is damaged: %v", e.Path, e.Err)
}
func (e *CorruptError) Unwrap() error { return e.Err }

// Hint returns the next step.
func (e *CorruptError) Hint() string {
	if e.Next != "" {
		return e.Next
	}
	return "`appliance verify` says what is damaged; then stop the daemon, move the database file away and restore a backup (`appliance restore`); mind what dmesg says of the disk"
}

// DiskError reports that the disk failed to read, write or sync the database, whose content may be
// whole. The write under way is refused; acknowledged ones are on disk.
type DiskError struct {
	Path string
	Err  error
}

func (e *DiskError) Error() string {
	return fmt.Sprintf("the disk of database %s has failed: %v", e.Path, e.Err)
}
func (e *DiskError) Unwrap() error { return e.Err }

// Hint returns the next step.
func (e *DiskError) Hint() string {
	return "try again; if it goes on, see whether the file system has space (df -h " + e.Path + ") and what dmesg says of the disk; leave the database where it is"
}

// LockedError reports that another process has the database open.
type LockedError struct{ Path string }

func (e *LockedError) Error() string {
	return "the store is in use by another process, which holds " + e.Path
}

// Hint returns the next step.
func (e *LockedError) Hint() string {
	return "the daemon is probably running: let the command ask it, or stop it first (systemctl stop appliance.socket appliance); `fuser " + e.Path + "` names the process"
}

// SchemaError reports that another version of the program wrote the database: a newer one, or an
// older one whose database was not to be migrated.
type SchemaError struct {
	Path        string
	Have, Known int // schema versions
}

func (e *SchemaError) Error() string {
	return fmt.Sprintf("database %s has schema version %d, this program has version %d", e.Path, e.Have, e.Known)
}

// Hint returns the next step.
func (e *SchemaError) Hint() string {
	if e.Have > e.Known {
		return "run the newer appliance that wrote it, or restore a backup that is older than the upgrade"
	}
	return "start the registry: `appliance serve` migrates the database, after it has made a copy beside it; or use the older appliance that wrote it"
}

// NotDatabaseError reports that a file is not a database of the application.
type NotDatabaseError struct {
	Path, Reason string
	Next         string // the next step; "": that of a file
}

func (e *NotDatabaseError) Error() string {
	return e.Path + " is not a database of the appliance: " + e.Reason
}

// Hint returns the next step.
func (e *NotDatabaseError) Hint() string {
	if e.Next != "" {
		return e.Next
	}
	return "check `database:` in config.yaml; if the path is right, move the file away and restore it from a backup"
}
