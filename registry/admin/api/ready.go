package api

import (
	"errors"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// ReadyRequest asks whether a cluster can be installed from what the registry has, or upgraded with it.
type ReadyRequest struct {
	To      string `json:"to,omitempty"`      // a version, a tag such as 4.20.3-x86_64, or a digest
	From    string `json:"from,omitempty"`    // the version of the cluster; "": it is to be installed
	Channel string `json:"channel,omitempty"` // of the cluster; "": any that leads there
	// Architectures are those of the nodes, as amd64, or multi; none: that of the only release.
	Architectures []string `json:"architectures,omitempty"`
	// Keys are public keys, armored, that sign releases besides the vendor's.
	Keys []byte `json:"keys,omitempty"`
	// Cluster is what the cluster has told of itself; nil: it is not known.
	Cluster *state.Facts `json:"cluster,omitempty"`
	// Unchanged asks instead whether what a verdict was given for is here as it was.
	Unchanged *Basis `json:"unchanged,omitempty"`
	// Content has every blob read that the verdict relies on, no faster than BytesPerSecond.
	Content        bool  `json:"content,omitempty"`
	BytesPerSecond int64 `json:"bytesPerSecond,omitempty"` // 0: no limit
	// Detach makes the verdict the daemon's own, as in GCRequest. Its progress and the verdict are in ReadyState.
	Detach bool `json:"detach,omitempty"`
}

// Detached reports whether the daemon is to go on without the caller.
func (q ReadyRequest) Detached() bool { return q.Detach }

// MaxBytes bounds the request: a cluster has hundreds of operators and mirrors.
func (ReadyRequest) MaxBytes() int64 { return MaxList }

// Check returns an error unless the request can be granted.
func (q ReadyRequest) Check() error {
	if q.To == "" && q.Unchanged == nil {
		return hint.New(errors.New("to is missing"), "name a release, such as 4.20.3")
	}
	return checkRate(q.BytesPerSecond)
}

// ReadyProgress is how far a verdict is.
type ReadyProgress struct {
	Reads   string `json:"reads,omitempty"` // what else is read, in words; "": nothing
	Release string `json:"release"`         // that is looked at
	Images  int    `json:"images"`          // of it, that were
	Of      int    `json:"of"`
	Bytes   int64  `json:"bytes,omitempty"` // that were read, with Content
	OfBytes int64  `json:"ofBytes,omitempty"`
}

// ReadyState is the last verdict that was asked for with Detach, which is forgotten when the registry stops, and the
// one that is being made.
type ReadyState struct {
	Running *ReadyRun    `json:"running,omitempty"`
	Last    *ReadyAnswer `json:"last,omitempty"` // not of one that was stopped
}

// ReadyRun is a verdict that is being made.
type ReadyRun struct {
	Asked    ReadyAsked    `json:"asked"`
	Progress ReadyProgress `json:"progress"`
	Host     string        `json:"host,omitempty"` // of the daemon that makes it, of several; "": the one that answers
}

// ReadyAnswer is a verdict, or the reason that there is none.
type ReadyAnswer struct {
	Asked   ReadyAsked `json:"asked"`
	Verdict *Verdict   `json:"verdict,omitempty"`
	Error   *Trouble   `json:"error,omitempty"`
	Ended   time.Time  `json:"ended"`
}

// ReadyAsked is what a verdict was asked about.
type ReadyAsked struct {
	To            string   `json:"to"`
	From          string   `json:"from,omitempty"`
	Channel       string   `json:"channel,omitempty"`
	Architectures []string `json:"architectures,omitempty"`
	Content       bool     `json:"content,omitempty"`
	Cluster       string   `json:"cluster,omitempty"` // the id of the cluster that has told of itself
	Keys          bool     `json:"keys,omitempty"`    // others than the vendor's may sign releases
}

// The answers of a Verdict.
const (
	ReadyYes   = "yes"
	ReadyRisks = "risks"
	ReadyNo    = "no"
)

// Verdict is whether a cluster can be installed or upgraded. What could not be checked is a no.
type Verdict struct {
	Answer       string   `json:"answer"`
	To           string   `json:"to"`
	From         string   `json:"from,omitempty"`
	Channel      string   `json:"channel,omitempty"`
	Architecture string   `json:"architecture,omitempty"` // of the release
	Nodes        []string `json:"nodes,omitempty"`        // architectures of the nodes; none: all of the release
	Path         []Hop    `json:"path,omitempty"`         // of an upgrade
	Reasons      []Reason `json:"reasons"`                // of a no
	Risks        []Reason `json:"risks"`
	Basis        Basis    `json:"basis"`
	// What was looked at.
	Images    int   `json:"images"`
	Manifests int   `json:"manifests"`
	Blobs     int   `json:"blobs"`
	Bytes     int64 `json:"bytes"` // of the blobs
	// Signatures were verified: those of releases, and those of images that nodes demand.
	Signatures int `json:"signatures"`
	// ContentRead reports that each blob was read and has its digest.
	ContentRead bool      `json:"contentRead"`
	Registry    string    `json:"registry"`
	Version     string    `json:"version"` // of the appliance
	Made        time.Time `json:"made"`
}

// Reason is a reason of a no, or a risk.
type Reason struct {
	Code  string `json:"code"` // for scripts
	Where string `json:"where"`
	Text  string `json:"text"`
	Hint  string `json:"hint"` // what to do
	// Cure is what an image set would have to bring; nil: more content cures nothing.
	Cure *Cure `json:"cure,omitempty"`
}

// Hop is an update from a release to another.
type Hop struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// Cure is content that is missing: a release, graph data, or a package of a catalog.
type Cure struct {
	Release      string `json:"release,omitempty"` // its version
	From         string `json:"from,omitempty"`    // with those from this one on, if it is not ""
	Architecture string `json:"architecture,omitempty"`
	Channel      string `json:"channel,omitempty"`
	Graph        bool   `json:"graph,omitempty"`
	Catalog      string `json:"catalog,omitempty"` // of operators, as its source names it
	Package      string `json:"package,omitempty"` // of the catalog
	// PackageChannel of the package is needed, from MinVersion on.
	PackageChannel string `json:"packageChannel,omitempty"`
	MinVersion     string `json:"minVersion,omitempty"`
}

// Basis is what a verdict was given for: another one may be given when it changes.
type Basis struct {
	Releases []JudgedRelease `json:"releases"`
	Graph    *JudgedImage    `json:"graph,omitempty"` // data, of an upgrade
	Catalogs []JudgedImage   `json:"catalogs,omitempty"`
}

// JudgedImage is an image that a verdict is about.
type JudgedImage struct {
	Image  string        `json:"image"` // repository:tag
	Digest digest.Digest `json:"digest"`
}

// JudgedRelease is a release that a verdict is about.
type JudgedRelease struct {
	Version      string        `json:"version"`
	Architecture string        `json:"architecture"`
	Digest       digest.Digest `json:"digest"`
	Payload      string        `json:"payload"` // as clusters pull it
	Image        string        `json:"image"`   // where it is here
}
