// Package helm is the room of Helm charts: charts are fetched from repositories or read from disk,
// rendered with their default values, and the images that the result names are listed for mirroring.
//
// The room is empty as yet. [Images] is where the planner asks for the images of a chart, and it
// refuses, so that an image set with charts is turned down whole.
package helm

import (
	"context"
	"fmt"
)

// Images lists the images that a chart, or all charts of a repository, need. It always fails, with a
// *NotBuiltError. source is the URL of a repository or the path of a chart.
func Images(_ context.Context, source string) ([]string, error) {
	return nil, &NotBuiltError{Source: source}
}

// NotBuiltError says that this version cannot mirror charts.
type NotBuiltError struct{ Source string }

func (e *NotBuiltError) Error() string {
	return fmt.Sprintf("helm charts are not built yet, so the images of %s cannot be mirrored", e.Source)
}

// Hint says what to do instead.
func (e *NotBuiltError) Hint() string {
	return "remove mirror.helm from the file and list the images under mirror.additionalImages: helm template CHART | grep image:"
}
