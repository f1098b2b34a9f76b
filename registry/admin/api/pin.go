package api

import (
	"errors"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// maxPins bounds the images of one request.
const maxPins = 1000

// PinRequest names images: repository:tag or repository@digest, of this registry or as an upstream names
// it.
type PinRequest struct {
	Images []string `json:"images"`
}

// Check returns an error unless the request can be granted.
func (q PinRequest) Check() error {
	switch {
	case len(q.Images) == 0:
		return hint.New(errors.New("images is empty"), "name images such as quay.io/org/image:v1")
	case len(q.Images) > maxPins:
		return hint.New(errors.New("there are too many images"), "pin at most 1000 at once")
	}
	return nil
}

// PinProgress is how far the images of a request have come.
type PinProgress struct {
	Image  string `json:"image"` // the one under way
	Done   int    `json:"done"`  // images
	Images int    `json:"images"`
	// Of the image under way, as far as its manifests are here:
	Blobs    int   `json:"blobs"`
	OfBlobs  int   `json:"ofBlobs"`
	Bytes    int64 `json:"bytes"`
	OfBytes  int64 `json:"ofBytes"`
	Failures int   `json:"failures"`
}

// PinResult is what became of the images of a request.
type PinResult struct {
	Images []PinOutcome `json:"images"`
}

// PinOutcome is what became of an image.
type PinOutcome struct {
	Image string `json:"image"` // as it was asked for
	*PinnedImage
	// Kept reports that the image needs no pin, since a push or a mirror run brought it.
	Kept    bool   `json:"kept,omitempty"`
	Warning string `json:"warning,omitempty"`
	Error   string `json:"error,omitempty"` // "": it is done
	Hint    string `json:"hint,omitempty"`
}

// PinnedImage is an image that is pinned.
type PinnedImage struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Tags       []string      `json:"tags"` // that name it now
	// Parts are its manifests and blobs, as far as its manifests are held; Held are those that are
	// here, and Bytes are of these.
	Parts int   `json:"parts"`
	Held  int   `json:"held"`
	Bytes int64 `json:"bytes"`
}
