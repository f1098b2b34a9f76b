package api

import (
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// ImageSetName names an image set of the configuration.
type ImageSetName struct {
	ImageSet string `json:"imageSet"` // its file, as the configuration has it
}

// Check returns an error unless the request can be granted.
func (q ImageSetName) Check() error {
	if q.ImageSet == "" {
		return hint.New(errors.New("no image set is named"), "name one of sync in config.yaml")
	}
	return nil
}

// MirrorRequest asks for a run of an image set that the configuration names, or for the plan of one.
type MirrorRequest struct {
	ImageSet string `json:"imageSet"` // its file, as the configuration has it
	// Detach makes the run the daemon's own, as in GCRequest. Its progress and its result are in the
	// list of image sets.
	Detach bool `json:"detach,omitempty"`
}

// Check returns an error unless the request can be granted.
func (q MirrorRequest) Check() error { return ImageSetName{q.ImageSet}.Check() }

// Detached reports whether the run is to go on without the caller.
func (q MirrorRequest) Detached() bool { return q.Detach }

// MirrorStop asks for the end of a run under way, or of the plan of one.
type MirrorStop struct {
	ImageSet string `json:"imageSet"`
	Plan     bool   `json:"plan,omitempty"`
}

// Check returns an error unless the request can be granted.
func (q MirrorStop) Check() error { return ImageSetName{q.ImageSet}.Check() }

// MirrorProgress is the progress of a run.
type MirrorProgress struct {
	Began    time.Time `json:"began"`
	Waiting  bool      `json:"waiting"`  // for the run of another image set
	Resolved int       `json:"resolved"` // images whose manifests have been read
	Planned  bool      `json:"planned"`  // Images and Bytes are known
	Images   int       `json:"images"`
	Bytes    int64     `json:"bytes"` // to fetch
	Copied   int       `json:"copied"`
	Existed  int       `json:"existed"`
	Failed   int       `json:"failed"`
	Fetched  int64     `json:"fetched"` // bytes

	Copying  []MirrorCopying `json:"copying,omitempty"`  // the images under way
	Failures []MirrorFailure `json:"failures,omitempty"` // the first of them
	Host     string          `json:"host,omitempty"`     // of the daemon that does it, of several; "": the one that answers
}

// MirrorCopying is an image that is copied.
type MirrorCopying struct {
	Image   string `json:"image"`
	Fetched int64  `json:"fetched"` // bytes
}

// MirrorResult is what a run did.
type MirrorResult struct {
	Began     time.Time       `json:"began"`
	Ended     time.Time       `json:"ended"`
	Mirrored  int             `json:"mirrored"` // images that are here, verified
	Planned   int             `json:"planned"`
	Fetched   int64           `json:"fetched"`             // bytes
	Failures  []MirrorFailure `json:"failures,omitempty"`  // the first of them
	Warnings  []string        `json:"warnings,omitempty"`  // the first of them
	Report    string          `json:"report,omitempty"`    // its file, which has all of them
	Resources []string        `json:"resources,omitempty"` // files of the cluster's resources
	Error     string          `json:"error,omitempty"`     // why the run is not a success; only in a status
	Host      string          `json:"host,omitempty"`      // of the daemon that ran it, of several: it has the files
}

// MirrorFailure is an image that could not be mirrored.
type MirrorFailure struct {
	Image string `json:"image"`
	Error string `json:"error"`
}

// MirrorState is the state of an image set that the configuration names.
type MirrorState struct {
	ImageSet string          `json:"imageSet"`
	Every    Duration        `json:"every"`
	Running  *MirrorProgress `json:"running,omitempty"`
	Last     *MirrorResult   `json:"last,omitempty"` // also one that failed or whose daemon, of several, was killed; not one that was stopped
	Next     time.Time       `json:"next,omitzero"`  // when it runs by itself; zero: it runs
	Trouble  *Trouble        `json:"trouble,omitempty"`
}

// ImageSetFile is the file of an image set.
type ImageSetFile struct {
	Text string `json:"text"` // without logins
}

// MirrorReportRequest asks for the report of the last run of an image set.
type MirrorReportRequest struct {
	ImageSet string `json:"imageSet"`
	After    int    `json:"after,omitempty"` // images are left out
	Limit    int    `json:"limit,omitempty"` // images are listed; at most AtOnce, 0: none
}

// Check returns an error unless the request can be granted.
func (q MirrorReportRequest) Check() error {
	if q.After < 0 || q.Limit < 0 || q.Limit > AtOnce {
		return hint.New(errors.New("after or limit is out of range"), "ask for at most 5000 images")
	}
	return ImageSetName{q.ImageSet}.Check()
}

// MirrorReport is the report of a run.
type MirrorReport struct {
	File     string          `json:"file"`
	Began    time.Time       `json:"began"`
	Planned  int             `json:"planned"`
	Mirrored int             `json:"mirrored"`
	Failures []MirrorFailure `json:"failures"` // all of them
	Warnings []string        `json:"warnings"`
	Images   []MirrorImage   `json:"images"` // mirrored, of the part that was asked for
}

// MirrorImage is an image of an image set.
type MirrorImage struct {
	Type        string `json:"type"`
	Origin      string `json:"origin"`
	Destination string `json:"destination"` // here, without the host
	Digest      string `json:"digest,omitempty"`
	Was         string `json:"was,omitempty"` // the digest that the tag has here, of one that has changed
	Bytes       int64  `json:"bytes,omitempty"`
	Missing     int64  `json:"missing,omitempty"` // bytes of it that are to be fetched
}

// MirrorPlan is what a run of an image set would do, and how the image set differs from what is held.
type MirrorPlan struct {
	Began    time.Time       `json:"began"`
	Ended    time.Time       `json:"ended"`
	Size     MirrorSize      `json:"size"`
	Parts    []MirrorSize    `json:"parts"` // by kind of image, and by catalog
	Space    []MirrorSpace   `json:"space"`
	Drift    MirrorDrift     `json:"drift"`
	Failures []MirrorFailure `json:"failures"` // images that cannot be planned, the first of them
	Failed   int             `json:"failed"`
	Warnings []string        `json:"warnings"`
	Error    *Trouble        `json:"error,omitempty"` // why there is no plan
}

// MirrorSize is how large some images are. A blob that several of them have counts once.
type MirrorSize struct {
	Name    string `json:"name,omitempty"`
	Images  int    `json:"images"`
	Bytes   int64  `json:"bytes"`
	Held    int64  `json:"held"`
	Missing int64  `json:"missing"` // to be fetched
}

// MirrorSpace is what a run needs of a file system, in bytes.
type MirrorSpace struct {
	Where string `json:"where"`
	Needs int64  `json:"needs"`
	Free  int64  `json:"free"` // without what is kept free
}

// MirrorDrift is how an image set and what is held differ. Each list has the first of its images.
type MirrorDrift struct {
	Missing []MirrorImage `json:"missing"` // asked for, and not here
	Changed []MirrorImage `json:"changed"` // tags that name another image at their source now
	Unasked []MirrorImage `json:"unasked"` // mirrored earlier, and not asked for any more

	Sums MirrorDriftSums `json:"sums"`
}

// MirrorDriftSums count all images of a MirrorDrift.
type MirrorDriftSums struct {
	Missing int `json:"missing"`
	Changed int `json:"changed"`
	Unasked int `json:"unasked"`
}

// MirrorPlanState is the last plan of an image set, which one daemon forgets when it stops and several after a week,
// and the progress of one that is made.
type MirrorPlanState struct {
	Running *MirrorProgress `json:"running,omitempty"`
	Last    *MirrorPlan     `json:"last,omitempty"`
}
