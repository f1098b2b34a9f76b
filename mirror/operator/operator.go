// Package operator will read, filter and rebuild file-based operator catalogs, with operator-registry's own code.
//
// It is not built yet: Refuse says so to whoever asks for it. A catalog is not copied as a plain image instead, since
// without its bundles it would offer a cluster what it cannot install.
package operator

import "fmt"

// NotBuiltError is what a configuration asks for and this room does not do yet.
type NotBuiltError struct{ At string }

func (e *NotBuiltError) Error() string {
	return fmt.Sprintf("%s: mirroring operator catalogs (mirror.operators) is not built yet", e.At)
}

// Hint says what to do about it.
func (e *NotBuiltError) Hint() string {
	return "take mirror.operators out of the file; nothing has been written"
}

// Refuse answers for catalogs asked for at a place in a file.
func Refuse(at string) error { return &NotBuiltError{At: at} }
