package api

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

// UsageRequest asks for what uses the space.
type UsageRequest struct {
	Text string `json:"text,omitempty"` // in the names of repositories, in any case
	All  bool   `json:"all,omitempty"`  // the largest are those that have most, and not those that have most of their own

	After int `json:"after,omitempty"` // Next of the answer before
	Limit int `json:"limit,omitempty"` // repositories; at most 1000, 0: 50
}

// maxUsage is how many repositories an answer has at most.
const maxUsage = 1000

// Check returns an error unless the request can be granted.
func (q UsageRequest) Check() error {
	if q.After < 0 || q.Limit < 0 || q.Limit > maxUsage {
		return hint.New(errors.New("after or limit is out of range"), "ask for 1 to 1000 repositories")
	}
	return nil
}

// Usage is what uses the space. It is counted in the background, and again if it is asked for after the store has changed.
type Usage struct {
	Counted  time.Time      `json:"counted,omitzero"`   // zero: not yet
	Changed  bool           `json:"changed,omitempty"`  // the store has changed since
	Counting *UsageProgress `json:"counting,omitempty"` // it is counted again
	Error    *Trouble       `json:"error,omitempty"`    // of the last count

	Blobs    BlobSum `json:"blobs"`
	Own      BlobSum `json:"own"`      // of these, what one repository alone has
	Shared   BlobSum `json:"shared"`   // what several have; it counts once
	Unlinked BlobSum `json:"unlinked"` // what none has

	Reclaimable BlobSum  `json:"reclaimable"` // what a collection would remove
	Unused      BlobSum  `json:"unused"`      // what one would remove once the grace period is over
	GracePeriod Duration `json:"gracePeriod"`

	Database int64 `json:"database"` // bytes of the database

	Repositories []RepositoryUsage `json:"repositories"` // the largest first
	Of           int               `json:"of"`           // how many there are, of those that were asked for
	Next         int               `json:"next,omitempty"`
}

// UsageProgress is how far a count is.
type UsageProgress struct {
	Began time.Time `json:"began"`
	Blobs int64     `json:"blobs"`
}

// BlobSum counts blobs.
type BlobSum struct {
	Blobs int64 `json:"blobs"`
	Bytes int64 `json:"bytes"`
}

// RepositoryUsage is what the blobs of a repository take.
type RepositoryUsage struct {
	Name   string  `json:"name"`
	Own    BlobSum `json:"own"`    // what no other repository has
	Shared BlobSum `json:"shared"` // what others have as well
}

// Damage is what is known to be damaged.
type Damage struct {
	Blobs    []DamagedBlob `json:"blobs"`          // out of service, the first hundred
	More     int           `json:"more,omitempty"` // that are not listed
	Verified *VerifyResult `json:"verified,omitempty"`
}

// DamagedBlob is a blob that is out of service.
type DamagedBlob struct {
	Digest  digest.Digest `json:"digest"`
	Size    int64         `json:"size"`
	Cause   string        `json:"cause"`
	Images  []string      `json:"images"`  // repository:tag or repository@digest that cannot be pulled whole, a hundred at most
	Sources []string      `json:"sources"` // where a scrub fetches it again; none: it is not known where it came from
}

// VerifyState is how a verification ended.
type VerifyState struct {
	Began    time.Time `json:"began"`
	Ended    time.Time `json:"ended"`
	Content  bool      `json:"content,omitempty"` // every blob was read
	Problems int64     `json:"problems"`
	Error    string    `json:"error,omitempty"` // why it stopped half way
}

// VerifyResult is the last verification.
type VerifyResult struct {
	VerifyState
	Report findings.Report `json:"report"` // with the first hundred problems
}

// BackupState is the last backup that was complete.
type BackupState struct {
	Began time.Time `json:"began"`
	Ended time.Time `json:"ended"`
}
