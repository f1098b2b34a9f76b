// Package operator is the room of operator catalogs: file-based catalogs are read, filtered by
// packages, channels and version ranges, and rebuilt, and the images of the bundles that remain are
// listed for mirroring.
//
// The room is empty as yet. [Images] is where the planner asks for the images of a catalog, and it
// refuses, so that an image set with operators is turned down whole and nobody takes half a mirror
// for a whole one.
package operator

import (
	"context"
	"fmt"
)

// Images lists the images that mirroring a catalog means. It always fails, with a *NotBuiltError.
func Images(_ context.Context, catalog string) ([]string, error) {
	return nil, &NotBuiltError{Catalog: catalog}
}

// NotBuiltError says that this version cannot mirror a catalog.
type NotBuiltError struct{ Catalog string }

func (e *NotBuiltError) Error() string {
	return fmt.Sprintf("operator catalogs are not built yet, so %s cannot be mirrored", e.Catalog)
}

// Hint says what to do instead.
func (e *NotBuiltError) Hint() string {
	return "remove mirror.operators from the file and mirror the catalogs with oc-mirror into the same registry"
}
