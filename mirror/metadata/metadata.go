// Package metadata reads and writes what oc-mirror v1 remembers of its runs, in its format, so that a
// mirror of version 1 goes on from where it was, and could go back.
//
// Use Read and Write with a Store: a Directory, or an Image of a registry, where storageConfig of an image
// set names one and at the destination. Next makes the metadata of the next run, Check compares the
// sequences of two.
//
// Refused: keeping it in a form of ours beside this one. Two would differ, and a person who comes from
// version 1 has this one.
package metadata

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
)

const (
	apiVersion = "mirror.openshift.io/v1alpha2"
	kind       = "Metadata"
)

// Metadata is what version 1 remembers of its runs.
type Metadata struct {
	Kind       string `json:"kind"`
	APIVersion string `json:"apiVersion"`
	// UID is that of all runs of one image set, SingleUse that nothing is remembered.
	UID        uuid.UUID  `json:"uid"`
	SingleUse  bool       `json:"singleUse"`
	PastMirror PastMirror `json:"pastMirror"`
	// PastAssociations are the images of all runs that are still mirrored.
	PastAssociations []Association `json:"pastAssociations,omitempty"`
}

// PastMirror is the last run.
type PastMirror struct {
	Timestamp    int64           `json:"timestamp"`
	Sequence     int             `json:"sequence"`
	Mirror       json.RawMessage `json:"mirror"` // that section of the image set
	Operators    []Operator      `json:"operators,omitempty"`
	Platforms    []Platform      `json:"platforms,omitempty"`
	Associations []Association   `json:"associations,omitempty"` // of its images
}

// Operator has the versions that a catalog begins with of which only the heads are asked for.
type Operator struct {
	Catalog  string    `json:"catalog"`
	ImagePin string    `json:"imagePin"`
	Packages []Package `json:"packages"`
}

// Package is one of its packages.
type Package struct {
	Name           string    `json:"name"`
	Channels       []Channel `json:"channels,omitempty"`
	MinVersion     string    `json:"minVersion,omitempty"`
	MaxVersion     string    `json:"maxVersion,omitempty"`
	MinBundle      string    `json:"minBundle,omitempty"`
	DefaultChannel string    `json:"defaultChannel,omitempty"`
}

// Channel is one of its channels.
type Channel struct {
	Name       string `json:"name"`
	MinVersion string `json:"minVersion,omitempty"`
	MaxVersion string `json:"maxVersion,omitempty"`
	MinBundle  string `json:"minBundle,omitempty"`
}

// Platform has the version that a channel of releases begins with.
type Platform struct {
	Channel    string `json:"channel"`
	MinVersion string `json:"minVersion"`
}

// Association is a manifest that was mirrored: of an image, or of a member of its list, whose name is its
// digest.
type Association struct {
	Name string `json:"name"`
	// Path is where it was mirrored to: a name with a registry, or only its path, if it went into an archive.
	Path            string          `json:"path"`
	ID              digest.Digest   `json:"id"`
	TagSymlink      string          `json:"tagSymlink"`
	Type            string          `json:"type"`
	ManifestDigests []digest.Digest `json:"manifestDigests,omitempty"`
	LayerDigests    []digest.Digest `json:"layerDigests,omitempty"`
}

// New returns the metadata of an image set that was never mirrored.
func New() *Metadata {
	return &Metadata{Kind: kind, APIVersion: apiVersion, UID: uuid.New()}
}

// Parse reads metadata. Unknown fields are those of a later version, which Write would lose. What follows the document
// is the end of a longer one: version 1 writes a file without cutting it, and reads no further either.
func Parse(data []byte) (*Metadata, error) {
	m := &Metadata{}
	if err := json.NewDecoder(bytes.NewReader(data)).Decode(m); err != nil {
		return nil, fmt.Errorf("metadata of oc-mirror v1: %w", err)
	}
	if m.Kind != kind || m.APIVersion != apiVersion {
		return nil, fmt.Errorf("metadata of oc-mirror v1: config GVK not recognized: %s, Kind=%s", m.APIVersion, m.Kind)
	}
	return m, nil
}

// Next returns the metadata after a run with some images. Its sequence is the next one.
func (m *Metadata) Next(run PastMirror, all []Association) *Metadata {
	next := *m
	run.Sequence = m.PastMirror.Sequence + 1
	next.PastMirror, next.PastAssociations = run, all
	return &next
}

// ImageSet returns the image set of the last run, as a file has it.
func (m *Metadata) ImageSet() ([]byte, error) {
	return json.Marshal(map[string]any{"kind": "ImageSetConfiguration", "apiVersion": apiVersion, "mirror": m.PastMirror.Mirror})
}

// SameError says that a sequence has been published already: there is nothing to do.
type SameError struct{}

func (SameError) Error() string { return "mirror sequence is the same" }

// OrderError says that a sequence does not follow the last one. What to do about it depends on where the
// sequence is from.
type OrderError struct{ Want, Got int }

func (e OrderError) Error() string {
	return fmt.Sprintf("expecting imageset with prefix mirror_seq%d: invalid mirror sequence order, want %d, got %d", e.Want, e.Want, e.Got)
}

// Check returns an error unless a sequence follows the one of the metadata at a destination, nil for none.
// The words are those of version 1.
func Check(sequence int, there *Metadata) error {
	want := 1
	if there != nil {
		if want = there.PastMirror.Sequence + 1; sequence == there.PastMirror.Sequence {
			return SameError{}
		}
	}
	if sequence == want {
		return nil
	}
	return OrderError{want, sequence}
}
