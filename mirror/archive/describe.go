package archive

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// Description is what archives have, and what is wrong with them.
type Description struct {
	Archives []Described `json:"archives"`
	Problems []string    `json:"problems,omitempty"`
}

// Described is one archive. Of oc-mirror's there is no more than its images and files.
type Described struct {
	Sequence int       `json:"sequence,omitempty"`
	Archive  string    `json:"archive,omitempty"`
	Created  time.Time `json:"created,omitzero"`
	Version  string    `json:"version,omitempty"`
	BuildsOn *Base     `json:"buildsOn,omitempty"`
	Chunks   int       `json:"chunks"` // as many as there are to be
	Files    []string  `json:"files"`
	Bytes    int64     `json:"bytes"` // of the files
	Blobs    int       `json:"blobs"`
	LeftOut  int       `json:"leftOut"` // blobs that the far side is to have
	Images   []Image   `json:"images"`
	Failures []Failure `json:"failures,omitempty"`
}

// Describe describes the archives in some directories or files. What is wrong with an archive is no
// error.
func Describe(ctx context.Context, paths ...string) (_ *Description, err error) {
	a, problems, err := open(ctx, paths, false)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	return a.description(problems), nil
}

func (a *Archive) description(problems []error) *Description {
	d := &Description{Archives: []Described{}}
	for _, p := range problems {
		d.Problems = append(d.Problems, p.Error())
	}
	for _, p := range a.parts {
		d.Archives = append(d.Archives, p.described())
	}
	return d
}

func (p *part) described() Described {
	d := Described{Chunks: len(p.numbers()), Blobs: len(p.blobs), Images: []Image{}}
	for _, n := range p.numbers() {
		if c := p.chunks[n]; c != nil {
			d.Files, d.Bytes = append(d.Files, c.path), d.Bytes+c.length
		}
	}
	if p.header != nil {
		d.Sequence, d.Archive = p.header.Sequence, p.header.Archive
	}
	if list := p.contents; list != nil {
		d.Created, d.Version, d.BuildsOn, d.LeftOut, d.Images, d.Failures = list.Created, list.Version, list.BuildsOn, list.LeftOut, list.Images, list.Failures
		return d
	}
	for _, name := range slices.Sorted(maps.Keys(p.tags)) {
		i := strings.LastIndexByte(name, ':')
		d.Images = append(d.Images, Image{Repository: name[:i], Tag: name[i+1:], Digest: p.tags[name]})
	}
	for _, c := range p.catalogsV1() {
		d.Images = append(d.Images, Image{Type: string(plan.OperatorCatalog), Origin: c.Name, Reference: c.Name, Repository: c.Repository, Tag: c.Tag, Digest: c.Root})
	}
	return d
}
