package api

import "github.com/opencontainers/go-digest"

// InventoryRequest asks for what follows what was listed before; empty for the
// beginning. Digests come first, then tags. Images are another list, which is asked for by itself.
type InventoryRequest struct {
	Digest string          `json:"digest,omitempty"`
	Tag    *Tag            `json:"tag,omitempty"` // set once all digests are listed
	Image  *InventoryImage `json:"image,omitempty"`
}

// InventoryImage is a manifest of a repository.
type InventoryImage struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
}

// Inventory is a part of what the registry has.
type Inventory struct {
	Digests []digest.Digest   `json:"digests,omitempty"` // of blobs that images need
	Tags    []Tag             `json:"tags,omitempty"`
	Images  []InventoryImage  `json:"images,omitempty"`
	Next    *InventoryRequest `json:"next,omitempty"` // nil: that was all
}
