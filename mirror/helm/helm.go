// Package helm will find the images that Helm charts use, with Helm's own code.
//
// It is not built yet: Refuse says so to whoever asks for it.
package helm

import "fmt"

// NotBuiltError is what a configuration asks for and this room does not do yet.
type NotBuiltError struct{ At string }

func (e *NotBuiltError) Error() string {
	return fmt.Sprintf("%s: mirroring the images of Helm charts (mirror.helm) is not built yet", e.At)
}

// Hint says what to do about it.
func (e *NotBuiltError) Hint() string {
	return "take mirror.helm out of the file, and list the charts' images under mirror.additionalImages; nothing has been written"
}

// Refuse answers for charts asked for at a place in a file.
func Refuse(at string) error { return &NotBuiltError{At: at} }
