// Package archive will write and read mirror_NNNNNN.tar, by which a mirror crosses an air gap.
//
// It is not built yet: RefuseExport and RefuseImport say so to whoever asks for it.
package archive

import "fmt"

// NotBuiltError is a workflow that this room does not do yet.
type NotBuiltError struct{ What string }

func (e *NotBuiltError) Error() string { return e.What + " is not built yet" }

// Hint says what to do about it.
func (e *NotBuiltError) Hint() string {
	return "mirror straight into a registry: docker://HOST:PORT with --workspace file://DIR; nothing has been written"
}

// RefuseExport answers for a file:// destination.
func RefuseExport(destination string) error {
	return &NotBuiltError{What: fmt.Sprintf("mirroring to an archive (%s)", destination)}
}

// RefuseImport answers for --from.
func RefuseImport(from string) error {
	return &NotBuiltError{What: fmt.Sprintf("mirroring from an archive (--from %s)", from)}
}
