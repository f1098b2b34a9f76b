// Package archive is the room of mirror_NNNNNN.tar: what an image set needs is written into
// archives of a bounded size, carried over to where there is no internet, and read into a registry
// there, in the layout of oc-mirror v2.
//
// The room is empty as yet. [Write] and [Read] are where the command asks for it, and both refuse
// before anything is written.
package archive

import "context"

// Write would write archives into dir. It always fails, with a *NotBuiltError.
func Write(_ context.Context, dir string) error {
	return &NotBuiltError{What: "writing an archive to " + dir}
}

// Read would read the archives of dir. It always fails, with a *NotBuiltError.
func Read(_ context.Context, dir string) error {
	return &NotBuiltError{What: "reading the archives of " + dir}
}

// NotBuiltError says that this version cannot do something with archives.
type NotBuiltError struct{ What string }

func (e *NotBuiltError) Error() string { return e.What + " is not built yet" }

// Hint says what to do instead.
func (e *NotBuiltError) Hint() string {
	return "mirror straight into a registry: appliance mirror -c FILE docker://HOST:PORT --workspace file://DIR"
}
