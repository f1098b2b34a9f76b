package api

import (
	"time"

	"github.com/opencontainers/go-digest"
)

// PruneRequest asks for what no attached cluster runs, can reach or may roll back to.
type PruneRequest struct {
	// Delete are releases and catalogs of an earlier answer. They are deleted, with what only they need, if they would be
	// in the answer now too. None: nothing is deleted.
	Delete []Pruned `json:"delete,omitempty"`
	// DryRun lists which entries of Delete would be deleted, and deletes nothing.
	DryRun bool `json:"dryRun,omitempty"`
}

// MaxBytes bounds the request.
func (PruneRequest) MaxBytes() int64 { return MaxList }

// Plans reports whether nothing is deleted.
func (q PruneRequest) Plans() bool { return q.DryRun || len(q.Delete) == 0 }

// PruneProgress is how far a prune is.
type PruneProgress struct {
	Deleting bool `json:"deleting"` // the plan is made
	Done     int  `json:"done"`
	Of       int  `json:"of"`
}

// PruneResult is what no attached cluster needs, and what became of it.
type PruneResult struct {
	Clusters []PruneCluster `json:"clusters"`
	// Delete are the releases and catalogs that go.
	Delete []Pruned `json:"delete"`
	// Kept are those that stay.
	Kept []PruneKept `json:"kept"`
	// Images are all that go: the releases and catalogs, and the images that only they need.
	Images []PrunedImage `json:"images"`
	// What deleting Images frees, once it is collected. What other images share stays, and does not count.
	Manifests int   `json:"manifests"`
	Blobs     int   `json:"blobs"`
	Bytes     int64 `json:"bytes"`
	// Deleted counts the images that were deleted.
	Deleted int `json:"deleted"`
	// Left is what was to be deleted and stays, with the reasons.
	Left []PruneKept `json:"left"`
}

// PruneCluster is an attached cluster, and the releases that it can reach.
type PruneCluster struct {
	ID            string    `json:"id"`
	Name          string    `json:"name,omitempty"`
	Version       string    `json:"version"`
	Channel       string    `json:"channel,omitempty"`
	Told          time.Time `json:"told"`          // when it told of itself
	Architectures []string  `json:"architectures"` // of its releases
	Reaches       []string  `json:"reaches"`       // versions, its own too
	// Problem is the reason that it is not known what the cluster can reach: all releases for it stay.
	Problem string `json:"problem,omitempty"`
}

// Pruned is a release or a catalog that goes.
type Pruned struct {
	Name   string        `json:"name"`  // 4.18.1 (amd64), or the catalog at its source
	Image  string        `json:"image"` // repository:tag
	Digest digest.Digest `json:"digest"`
	Images int           `json:"images"` // that go with it, and it
	Bytes  int64         `json:"bytes"`  // that deleting it alone frees
	// AskedBy names the image sets whose next run brings it again.
	AskedBy []string `json:"askedBy,omitempty"`
}

// PruneKept is what stays, and why.
type PruneKept struct {
	Name   string `json:"name"`
	Image  string `json:"image"` // repository:tag or repository@digest
	Reason string `json:"reason"`
}

// PrunedImage is an image to delete.
type PrunedImage struct {
	Repository string        `json:"repository"`
	Digest     digest.Digest `json:"digest"`
	Tags       []string      `json:"tags"`
	Of         string        `json:"of"` // a release or catalog that it is of
}
