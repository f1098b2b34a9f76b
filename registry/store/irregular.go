package store

import (
	"fmt"
	"io/fs"
	"os"
)

// besides are the names of what lies beside a database.
func besides() []string { return []string{"-wal", "-shm", "-journal", ".lock", ".reserve"} }

// checkRegular refuses a FIFO, a socket or a device in the place of a file beside the database, which would be waited for
// for good, or written to. The database itself is looked at when it is opened.
func checkRegular(database string) error {
	for _, name := range besides() {
		info, err := os.Stat(database + name)
		if err == nil && !info.Mode().IsRegular() {
			return &IrregularError{Path: database + name, Mode: info.Mode()}
		}
	}
	return nil
}

// IrregularError says that there is something other than a file in the place of one of the store's.
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
