package database

import "fmt"

// UnavailableError reports that the server of the database does not answer, or not to writes, at
// the moment. What was acknowledged is on its disk. A write that failed with it may be in effect.
type UnavailableError struct {
	Database string // without a password
	Next     string // the next step of an administrator
	Err      error
}

func (e *UnavailableError) Error() string {
	return fmt.Sprintf("the database %s is not available: %v", e.Database, e.Err)
}
func (e *UnavailableError) Unwrap() error { return e.Err }

// Hint returns the next step.
func (e *UnavailableError) Hint() string { return e.Next }
