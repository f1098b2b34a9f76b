// Package findings has the results of verify and scrub, which the store and the control API share:
// the client of the API does not import the store. Two sets of types with a conversion were
// refused.
package findings

import "github.com/opencontainers/go-digest"

// Report is the result of a verification.
type Report struct {
	Manifests        int64     `json:"manifests"`        // whose bytes, columns and references were verified
	References       int64     `json:"references"`       // of these manifests
	Tags             int64     `json:"tags"`             // verified
	Blobs            int64     `json:"blobs"`            // whose file was verified
	BlobBytes        int64     `json:"blobBytes"`        // that these files should have
	ContentBytes     int64     `json:"contentBytes"`     // read and hashed, if that was asked for
	Unfetched        int64     `json:"unfetched"`        // blobs of pulled-through manifests that were never requested
	Quarantined      int64     `json:"quarantined"`      // blobs out of service, see scrub
	ExtraFiles       int64     `json:"extraFiles"`       // files without a row; collection removes them
	ExtraBytes       int64     `json:"extraBytes"`       // of these files
	StaleUploads     int64     `json:"staleUploads"`     // not used for a day; collection removes them
	StaleUploadBytes int64     `json:"staleUploadBytes"` // of these uploads
	Problems         []Problem `json:"problems"`         // the first thousand
	MoreProblems     int64     `json:"moreProblems"`     // that are not listed
}

// Clean reports whether nothing is damaged. Extra files, stale uploads and blobs that were not
// fetched yet are not damage.
func (r Report) Clean() bool { return len(r.Problems) == 0 }

// Size is how much there is to verify, counted at the beginning.
type Size struct {
	Manifests int64 `json:"manifests"`
	Blobs     int64 `json:"blobs"`
	BlobBytes int64 `json:"blobBytes"`
}

// Kind is the kind of thing that has a problem: database, manifest, tag or blob.
type Kind string

// Problem is one finding.
type Problem struct {
	Kind   Kind   `json:"kind"`
	Name   string `json:"name"`   // a digest, repository:tag, or a table
	What   string `json:"what"`   // is wrong with it
	Remedy string `json:"remedy"` // what to do
}

func (p Problem) String() string { return string(p.Kind) + " " + p.Name + ": " + p.What }

// ScrubReport is the result of a scrub.
type ScrubReport struct {
	Blobs    int64    `json:"blobs"`    // read
	Bytes    int64    `json:"bytes"`    // of these
	Resumed  bool     `json:"resumed"`  // it continued a scrub that had stopped
	Complete bool     `json:"complete"` // it reached the end
	Damaged  int64    `json:"damaged"`  // blobs, those in quarantine before included
	Repaired int64    `json:"repaired"` // of these
	Damage   []Damage `json:"damage"`   // the first thousand
}

// Damage is one damaged blob.
type Damage struct {
	Digest      digest.Digest `json:"digest"`
	Size        int64         `json:"size"`
	Cause       string        `json:"cause"`
	Known       bool          `json:"known"`  // in quarantine before
	Images      []string      `json:"images"` // repository:tag or repository@digest, a hundred at most
	Repaired    bool          `json:"repaired"`
	RepairError string        `json:"repairError,omitempty"`
}

// Source is a repository on a registry, host[:port], that a blob may have come from.
type Source struct{ Registry, Repository string }
