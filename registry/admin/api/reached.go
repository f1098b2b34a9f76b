package api

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// maxCatalogName bounds the name of a catalog: no registry takes a longer one.
const maxCatalogName = 1000

// CatalogRead asks for what an operator catalog offers at its registry, which a registry that holds none of
// it, or a part, does not know. Nothing is mirrored.
type CatalogRead struct {
	Catalog string `json:"catalog"` // an image, as in mirror.operators
	// ImageSet is the file of the configuration whose credentials are used. "": those of the first that has some.
	ImageSet string `json:"imageSet,omitempty"`
	Detach   bool   `json:"detach,omitempty"` // as in MirrorRequest
}

// Check returns an error unless the request can be granted.
func (q CatalogRead) Check() error {
	if q.Catalog == "" || len(q.Catalog) > maxCatalogName {
		return hint.New(fmt.Errorf("the name of a catalog has between 1 and %d bytes", maxCatalogName),
			"such as registry.redhat.io/redhat/redhat-operator-index:v4.18")
	}
	if _, d, is := strings.Cut(q.Catalog, "@"); is && digest.Digest(d).Validate() != nil { // it may be a password, which logs must not get
		return hint.New(errors.New("what is after @ in the name of a catalog is not a digest"), "put a login into the credentials file that authFile of the image set names")
	}
	return nil
}

// Detached reports whether the catalog is to be read without the caller.
func (q CatalogRead) Detached() bool { return q.Detach }

// CatalogReading is the progress of the reading of a catalog at its registry.
type CatalogReading struct {
	Began   time.Time `json:"began"`
	Catalog string    `json:"catalog"`
	Fetched int64     `json:"fetched"`        // bytes
	Host    string    `json:"host,omitempty"` // of the daemon that does it, of several; "": the one that answers
}

// ReachedCatalog is an operator catalog as it was at its registry.
type ReachedCatalog struct {
	Catalog  string        `json:"catalog"`
	Digest   digest.Digest `json:"digest,omitempty"` // "": it has not been read
	Read     time.Time     `json:"read,omitzero"`
	Packages int           `json:"packages"`
	// Error is why the last reading failed. What an earlier one has read is still there.
	Error *Trouble `json:"error,omitempty"`
}

// ReachedCatalogs are the operator catalogs that were read at their registries last, and the one that is being
// read. They are forgotten when the registry stops; several daemons have them for a week.
type ReachedCatalogs struct {
	Running *CatalogReading  `json:"running,omitempty"`
	Read    []ReachedCatalog `json:"read"` // the newest first
}

// ReachedPackagesRequest asks for the packages of an operator catalog that was read at its registry, by parts of
// their names.
type ReachedPackagesRequest struct {
	Catalog string `json:"catalog"`
	Page
}

// Check returns an error unless the request can be granted.
func (q ReachedPackagesRequest) Check() error {
	return errors.Join(CatalogRead{Catalog: q.Catalog}.Check(), q.Page.Check())
}
