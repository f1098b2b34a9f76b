package api

import (
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// PageMost is how many repositories or tags one request lists, and PageUsual how many without a limit.
const (
	PageMost  = 100
	PageUsual = 50
)

// Page is a part of a list by name.
type Page struct {
	Search string `json:"search,omitempty"` // a text that names contain, in any case; "": all
	After  string `json:"after,omitempty"`  // the last name of the part before; "": from the beginning
	Limit  int    `json:"limit,omitempty"`  // 0: PageUsual
}

// Check returns an error unless the request can be granted.
func (p Page) Check() error {
	if p.Limit < 0 || p.Limit > PageMost {
		return fmt.Errorf("limit is %d: it may be from 1 to %d", p.Limit, PageMost)
	}
	return nil
}

// Repositories is a part of the repositories that the user may see.
type Repositories struct {
	Repositories []Repository `json:"repositories"`
	More         bool         `json:"more,omitempty"` // there are some after the last
}

// Repository is a repository that has a manifest.
type Repository struct {
	Name string `json:"name"`
	Tags int    `json:"tags"` // counted up to 100,000
}

// TagsRequest asks for tags of a repository.
type TagsRequest struct {
	Repository string `json:"repository"`
	Page
}

// TagPage is a part of the tags of a repository.
type TagPage struct {
	Tags []TaggedImage `json:"tags"`
	More bool          `json:"more,omitempty"`
}

// Kinds of images.
const (
	KindImage       = "image"
	KindIndex       = "index" // of images for several platforms
	KindChart       = "chart" // of Helm
	KindSignature   = "signature"
	KindAttestation = "attestation"
	KindSBOM        = "sbom"
	KindReferrers   = "referrers" // a list of what refers to another image
	KindArtifact    = "artifact"
)

// TaggedImage is a tag with what it names.
type TaggedImage struct {
	Tag          string        `json:"tag"`
	Digest       digest.Digest `json:"digest"`
	Kind         string        `json:"kind"`
	MediaType    string        `json:"mediaType"`
	ArtifactType string        `json:"artifactType,omitempty"`
	Size         *ImageSize    `json:"size,omitempty"` // nil: not counted, as there is too much
	Moved        time.Time     `json:"moved"`          // when it was pushed, or moved to this image
	Confirmed    time.Time     `json:"confirmed,omitzero"`
	Origins      []string      `json:"origins,omitempty"` // what it is a mirror of
}

// ImageSize is how much of an image is here.
type ImageSize struct {
	Parts int   `json:"parts"` // manifests and blobs, as far as its manifests are here
	Held  int   `json:"held"`  // of these, that are here
	Bytes int64 `json:"bytes"` // of the blobs that are here, each once
}

// Image describes an image, for people. Long lists and texts of it are cut.
type Image struct {
	Repository   string            `json:"repository"`
	Tag          string            `json:"tag,omitempty"` // by which it was asked for
	Digest       digest.Digest     `json:"digest"`
	Kind         string            `json:"kind"`
	MediaType    string            `json:"mediaType"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Manifest     int64             `json:"manifestBytes"`
	Size         *ImageSize        `json:"size,omitempty"`
	Came         time.Time         `json:"came"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	Platforms    []ImagePlatform   `json:"platforms,omitempty"` // of an index
	Config       *ImageConfig      `json:"config,omitempty"`
	// ConfigProblem is the reason that the config of an image cannot be shown.
	ConfigProblem string       `json:"configProblem,omitempty"`
	Layers        []ImageLayer `json:"layers,omitempty"`

	Tags      []string        `json:"tags"`              // that name it
	AllTags   int             `json:"allTags"`           // Tags has the first of them
	Indexes   []digest.Digest `json:"indexes,omitempty"` // that list it
	Subject   digest.Digest   `json:"subject,omitempty"` // to which it is attached
	Referrers []Referrer      `json:"referrers,omitempty"`
	Origins   []string        `json:"origins,omitempty"` // what the tag is a mirror of
	Moves     []TagMove       `json:"moves,omitempty"`   // of the tag, the last first
	Pinned    bool            `json:"pinned,omitempty"`
	Clusters  []string        `json:"clusters,omitempty"` // that need it
}

// ImagePlatform is a manifest that an index lists.
type ImagePlatform struct {
	Platform  string        `json:"platform,omitempty"` // such as linux/amd64
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Held      bool          `json:"held"`
	Size      *ImageSize    `json:"size,omitempty"` // nil where it is not held, or not counted
}

// ImageConfig is how a container of an image is run.
type ImageConfig struct {
	Created    *time.Time        `json:"created,omitempty"`
	Platform   string            `json:"platform,omitempty"`
	Author     string            `json:"author,omitempty"`
	User       string            `json:"user,omitempty"`
	Entrypoint []string          `json:"entrypoint,omitempty"`
	Command    []string          `json:"command,omitempty"`
	WorkingDir string            `json:"workingDir,omitempty"`
	Env        []string          `json:"env,omitempty"`
	Ports      []string          `json:"ports,omitempty"`
	Volumes    []string          `json:"volumes,omitempty"`
	Labels     map[string]string `json:"labels,omitempty"`
}

// ImageLayer is a layer of an image.
type ImageLayer struct {
	Digest    digest.Digest `json:"digest"`
	MediaType string        `json:"mediaType"`
	Size      int64         `json:"size"` // as the image says
	Held      bool          `json:"held"`
	Foreign   bool          `json:"foreign,omitempty"` // it need not be here
	Command   string        `json:"command,omitempty"` // that made it
	Title     string        `json:"title,omitempty"`   // of a file of an artifact
	// Shared counts other images with the layer, up to 1000: all of the registry, or those of the
	// repository for a user who may not see all.
	Shared int `json:"shared"`
}

// Referrer is what is attached to an image: a signature, an SBOM, an attestation.
type Referrer struct {
	Digest       digest.Digest     `json:"digest"`
	Kind         string            `json:"kind"`
	ArtifactType string            `json:"artifactType,omitempty"`
	Tag          string            `json:"tag,omitempty"` // by which it is attached; "": by its subject
	Size         int64             `json:"size"`          // of its manifest
	Came         time.Time         `json:"came"`
	Annotations  map[string]string `json:"annotations,omitempty"`
}

// TagMove is a move of a tag.
type TagMove struct {
	Was    digest.Digest `json:"was,omitempty"`    // "": the tag did not exist
	Became digest.Digest `json:"became,omitempty"` // "": it was deleted
	Moved  time.Time     `json:"moved"`
	Run    string        `json:"run,omitempty"` // the name of the mirror run that moved it; "": a push or a delete
}

// ImageDelete is a tag, or by its digest an image, that is to be deleted.
type ImageDelete Place

// Check returns an error unless the request can be granted.
func (d ImageDelete) Check() error { return image.CheckRepository(d.Repository) }

// Deletion is what a delete does, or would do.
type Deletion struct {
	Digest digest.Digest `json:"digest"` // of the image
	// Refused is the reason that it is not deleted, with what to do in Hint.
	Refused string `json:"refused,omitempty"`
	Hint    string `json:"hint,omitempty"`
	// What goes. A tag goes alone.
	Tags    []string      `json:"tags,omitempty"`
	AllTags int           `json:"allTags"` // Tags has the first of them
	Images  []DeletedPart `json:"images,omitempty"`
	AllGone int           `json:"allImages"` // Images has the first of them
	// What a collection frees then. Within is true for a user with grants, who learns nothing of other
	// repositories: it is what this repository does not need any more, and others may.
	Blobs  int   `json:"blobs"`
	Bytes  int64 `json:"bytes"`
	Within bool  `json:"within,omitempty"`
	// What stays: other tags of the image, images of an index that something else keeps, what is attached,
	// and bytes that other images share.
	OtherTags    []string        `json:"otherTags,omitempty"`
	AllOtherTags int             `json:"allOtherTags"` // OtherTags has the first of them
	Children     []digest.Digest `json:"children,omitempty"`
	Attached     []DeletedPart   `json:"attached,omitempty"` // where deleteReferrers is off
	SharedBytes  int64           `json:"sharedBytes"`
	Repositories []string        `json:"repositories,omitempty"` // that have the image too
}

// DeletedPart is an image that goes with a deleted one, or the deleted one itself.
type DeletedPart struct {
	Digest   digest.Digest `json:"digest"`
	Kind     string        `json:"kind"`
	Platform string        `json:"platform,omitempty"`
}
