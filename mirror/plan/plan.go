// Package plan holds what a mirror run works on: images, their manifests, the plan that lists them,
// and the table of image classes.
//
// Use Type.Class for what images of one type have in common: a new type of image is a line in
// Classes, and a collector. Refused: a switch over types anywhere else, since each of them would
// have to be found when a type is added.
package plan

import (
	"cmp"
	"fmt"
	"iter"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/imageset"
)

// Image is one image of a plan.
type Image struct {
	Type   Type   `json:"type"`
	Origin string `json:"origin"` // as the configuration or the release names it
	Reason string `json:"why"`    // the reason that the image is in the plan
	// Repository and Tag are the destination, below its registry.
	Repository string `json:"repository"`
	Tag        string `json:"tag"`
	// Release is the release that the image belongs to, such as 4.18.2-x86_64; else empty.
	Release string `json:"release,omitempty"`
	// Channel is the update channel that led to the release, if one did; of the payload only.
	Channel string `json:"channel,omitempty"`
	// Platforms are those that are wanted of a list; none means all. The list itself is copied as
	// it is, since another would have another digest.
	Platforms []imageset.OSArch `json:"platforms,omitempty"`

	// Bundles are those of operators that need the image.
	Bundles []Bundle `json:"bundles,omitempty"`

	Digest    digest.Digest `json:"digest,omitempty"`
	Manifests []Manifest    `json:"manifests,omitempty"` // children before those that name them, the root last
	// Unsigned are the reasons that a cluster would not take the image for signed.
	Unsigned []string `json:"unsigned,omitempty"`
	// Attachments are signatures, attestations, SBOMs and other referrers of the manifests.
	Attachments []Attachment `json:"attachments,omitempty"`

	Reference imageset.Reference `json:"-"` // the reference that the image is pulled by
	Signature []byte             `json:"-"` // OpenPGP, of a release
	// UniqueName is that of an operator catalog, see imageset.Operator.
	UniqueName string `json:"-"`
	// Template is the CatalogSource that the one of an operator catalog is made of.
	Template []byte `json:"-"`
	// Whole reports that it is an operator catalog that was asked for as it is, and is so.
	Whole bool `json:"-"`
}

// Bundle is a bundle of an operator, in a catalog as the image set names it.
type Bundle struct {
	Catalog string `json:"catalog"`
	Package string `json:"package"`
	Name    string `json:"name"`
}

// Manifest is one manifest of an image, and its blobs.
type Manifest struct {
	Descriptor ocispec.Descriptor   `json:"descriptor"`
	Blobs      []ocispec.Descriptor `json:"blobs,omitempty"`

	Body    []byte `json:"-"`
	Foreign int    `json:"-"` // layers that are not among the blobs, since the manifest has other addresses for them
}

// Attachment is what belongs to a manifest of an image, in the repository of the image.
type Attachment struct {
	Subject   digest.Digest `json:"subject"`
	Tag       string        `json:"tag,omitempty"` // sha256-….sig and so on; empty for what is found by its subject
	Digest    digest.Digest `json:"digest"`
	Manifests []Manifest    `json:"manifests"`
}

// Compare orders attachments by their subject, tag and digest.
func (a Attachment) Compare(b Attachment) int {
	return cmp.Or(cmp.Compare(a.Subject, b.Subject), cmp.Compare(a.Tag, b.Tag), cmp.Compare(a.Digest, b.Digest))
}

// All returns the manifests of an image and, after them, those of its attachments.
func (i *Image) All() []Manifest {
	all := i.Manifests
	for _, a := range i.Attachments {
		all = slices.Concat(all, a.Manifests)
	}
	return all
}

// Tags returns what each tag of an image and of its attachments names.
func (i *Image) Tags() map[string]digest.Digest {
	all := map[string]digest.Digest{i.Tag: i.Digest}
	for _, a := range i.Attachments {
		if a.Tag != "" {
			all[a.Tag] = a.Digest
		}
	}
	return all
}

// Unsigned returns the images that are not signed, though they should be.
func Unsigned(images []*Image) []*Image {
	var all []*Image
	for _, i := range images {
		if len(i.Unsigned) > 0 {
			all = append(all, i)
		}
	}
	return all
}

// NewManifest returns a manifest and the blobs that a mirror copies with it.
func NewManifest(desc ocispec.Descriptor, body []byte, parsed image.Manifest) Manifest {
	m := Manifest{Descriptor: desc, Body: body}
	for _, r := range parsed.Copied() {
		m.Blobs = append(m.Blobs, ocispec.Descriptor{MediaType: r.MediaType, Digest: r.Digest, Size: r.Size})
	}
	for _, r := range parsed.References {
		if r.URLs {
			m.Foreign++
		}
	}
	return m
}

// Plan is everything that a run is going to do.
type Plan struct {
	Images   []*Image  `json:"images"`
	Failures []Failure `json:"failures"`          // images that cannot be planned; the others can be mirrored
	Blocked  []*Image  `json:"blocked,omitempty"` // that blockedImages leaves out
	Warnings []string  `json:"warnings,omitempty"`
	Bytes    int64     `json:"bytes"`   // of all distinct blobs
	Held     int64     `json:"held"`    // of those that the destination has
	Missing  int64     `json:"missing"` // of the others
	Blobs    int       `json:"blobs"`
	// Catalogs are the sizes by operator catalog.
	Catalogs []CatalogSize `json:"catalogs,omitempty"`
	Registry string        `json:"registry"`
	Space    []Space       `json:"space,omitempty"` // of file systems that are written to
	Prune    []Pruned      `json:"prune,omitempty"` // deleted from the registry once all images are there

	// There has the blobs that the destination has, for Measure.
	There map[digest.Digest]bool `json:"-"`
}

// Pruned is an image that was mirrored and is no longer asked for.
type Pruned struct {
	Type       Type          `json:"type"`
	Origin     string        `json:"origin"`
	Repository string        `json:"repository"`
	Tag        string        `json:"tag"`
	Digest     digest.Digest `json:"digest"`
}

// Space is what a plan needs of a file system, in bytes.
type Space struct {
	Where  string `json:"where"`
	Needs  int64  `json:"needs"`
	Free   int64  `json:"free"`           // without Kept
	Kept   int64  `json:"kept,omitempty"` // bytes that are to stay free
	Remedy string `json:"-"`              // what to do when it does not fit
}

// Failure is an image that is not, or not completely, at its destination.
type Failure struct {
	Image      *Image `json:"image"`
	Error      string `json:"error"`
	Incomplete string `json:"incomplete,omitempty"` // what the failure makes incomplete

	Cause error `json:"-"`
	// Consequence reports that the image itself is complete, and what it is a part of is not.
	Consequence bool `json:"-"`
	// Signatures reports that the signatures of the image could not be read. The image itself is in the
	// plan, and counts there.
	Signatures bool `json:"-"`
}

// Failed returns the failure of an image, whose origin may be no reference: it is written to logs and
// reports without a login.
func Failed(image *Image, err error) Failure {
	image.Origin = imageset.Shown(image.Origin)
	return Failure{Image: image, Error: err.Error(), Cause: err}
}

// Planned returns how many images were to be planned.
func (p *Plan) Planned() int {
	n := len(p.Images)
	for _, f := range p.Failures {
		if !f.Signatures {
			n++
		}
	}
	return n
}

// Distinct returns the plan's blobs, each once, with the first of the repositories that it goes to.
func (p *Plan) Distinct() iter.Seq2[string, ocispec.Descriptor] {
	return func(yield func(string, ocispec.Descriptor) bool) {
		seen := map[digest.Digest]bool{}
		for _, i := range p.Images {
			for _, b := range Blobs(i.All()) {
				if seen[b.Digest] {
					continue
				}
				seen[b.Digest] = true
				if !yield(i.Repository, b) {
					return
				}
			}
		}
	}
}

// Blobs returns the blobs of some manifests, each once.
func Blobs(manifests []Manifest) []ocispec.Descriptor {
	var all []ocispec.Descriptor
	seen := map[digest.Digest]bool{}
	for _, m := range manifests {
		for _, b := range m.Blobs {
			if !seen[b.Digest] {
				seen[b.Digest] = true
				all = append(all, b)
			}
		}
	}
	return all
}

// WarnOfForeign adds a warning for each image that is not complete without its foreign layers.
func (p *Plan) WarnOfForeign() {
	for _, i := range p.Images {
		n := 0
		for _, m := range i.Manifests {
			n += m.Foreign
		}
		if n > 0 {
			p.Warnings = append(p.Warnings, fmt.Sprintf("%s: foreign layers, %d of them, are not copied: clients fetch them from the URLs in its manifests", i.Origin, n))
		}
	}
}
