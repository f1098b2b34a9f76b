package api

import (
	"encoding/json"
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// NewSync begins a run. The name tells people what it brings.
type NewSync struct {
	Name string `json:"name"`
}

// Check returns an error if the name is empty.
func (s NewSync) Check() error {
	if s.Name == "" {
		return hint.New(errors.New("the sync has no name"), "give it one that tells what it brings")
	}
	return nil
}

// Sync is a run that was begun.
type Sync struct {
	ID string `json:"id"`
}

// Existing lists digests by repository: those asked for, and in an answer those that exist, and the
// blobs that exist in other repositories only. Partial is how many bytes of a blob that does not
// exist are here, left by an upload that broke off: PutBlob may send the rest, see UploadOffset.
type Existing struct {
	Blobs       map[string][]digest.Digest `json:"blobs,omitempty"`
	Manifests   map[string][]digest.Digest `json:"manifests,omitempty"`
	Unconfirmed map[string][]digest.Digest `json:"unconfirmed,omitempty"`
	Partial     map[digest.Digest]int64    `json:"partial,omitempty"`
}

// Written says how many bytes of a blob are in its file.
type Written struct {
	Size    int64 `json:"size"` // of the whole blob
	Written int64 `json:"written"`
}

// BlobFile names the file of a blob that is not complete.
type BlobFile struct {
	File string `json:"file"`
}

// Confirm lists blobs by the repository whose source has confirmed them.
type Confirm struct {
	Blobs map[string][]Blob `json:"blobs"`
}

// Blob is a blob of known size.
type Blob struct {
	Digest digest.Digest `json:"digest"`
	Size   int64         `json:"size"`
}

// Confirmed lists the blobs that are staged.
type Confirmed struct {
	Blobs map[string][]digest.Digest `json:"blobs,omitempty"`
}

// Tags lists what tags are to name.
type Tags struct {
	Tags []Tag `json:"tags"`
}

// Tag is a tag to set.
type Tag struct {
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
}

// Sources lists by repository where its content comes from, as registry/path.
type Sources struct {
	Sources map[string][]string `json:"sources"`
}

// Origins lists what tags are mirrors of.
type Origins struct {
	Origins []Origin        `json:"origins"`
	Next    *OriginsRequest `json:"next,omitempty"` // of the rest of a list; nil: there is none
}

// Origin is what a tag is a mirror of. About is JSON of package mirror.
type Origin struct {
	Repository string          `json:"repository"`
	Tag        string          `json:"tag"`
	Digest     digest.Digest   `json:"digest,omitzero"` // not of a request
	Origin     string          `json:"origin"`
	About      json.RawMessage `json:"about"`
	Recorded   time.Time       `json:"recorded,omitzero"` // not of a request
}

// OriginsRequest asks for the origins after one.
type OriginsRequest struct {
	Repository string `json:"repository,omitempty"`
	Tag        string `json:"tag,omitempty"`
	Origin     string `json:"origin,omitempty"`
}
