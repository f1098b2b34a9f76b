package api

import "encoding/json"

// Wants is what an image set wants of the registry. Only package mirror reads it.
type Wants struct {
	Key   string          `json:"key"` // of the image set; its last wants are replaced, and removed by null
	Wants json.RawMessage `json:"wants"`
}

// NeedsRequest asks what needs images besides a workspace that would delete them.
type NeedsRequest struct {
	Workspace string  `json:"workspace"` // its id
	Images    []Place `json:"images"`
	// WithoutImageSets leaves out what image sets want.
	WithoutImageSets bool `json:"withoutImageSets,omitempty"`
}

// Place is an image, by a tag or a digest.
type Place struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference"`
}

// Need is an image that is needed.
type Need struct {
	Repository string `json:"repository"`
	Reference  string `json:"reference"`
	By         string `json:"by"`
	// Content reports that another tag of the same content is needed, and not this reference.
	Content bool `json:"content,omitempty"`
}

// CatalogContent is what a catalog of the registry has. Only package mirror reads it.
type CatalogContent struct {
	Content json.RawMessage `json:"content,omitempty"`
	Error   string          `json:"error,omitempty"` // the reason that the catalog cannot be read
}
