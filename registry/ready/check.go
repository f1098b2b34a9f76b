package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/stored"
)

// anew is what to do when a verdict does not hold any more.
const anew = "have another verdict given: appliance ready --to VERSION"

// check compares what a verdict was given for with what is here.
func (j *judgement) check(ctx context.Context, basis api.Basis) error {
	for _, r := range basis.Releases {
		n := slices.IndexFunc(j.known.Releases, func(k graphdata.Release) bool {
			return k.Digest == r.Digest && k.Version.String() == r.Version && k.Arch == r.Architecture
		})
		if n >= 0 {
			if err := j.stillWhole(ctx, j.known.Releases[n]); err != nil {
				return err
			}
		} else {
			j.refuse(api.Reason{Code: "release-changed", Where: r.Payload, Text: fmt.Sprintf("the image of %s for %s that it was given for is not here any more", r.Version, r.Architecture), Hint: anew})
		}
	}
	if g := basis.Graph; g != nil && (g.Digest != j.known.DataDigest || g.Image != j.known.Data) {
		j.refuse(api.Reason{Code: "graph-changed", Where: g.Image, Text: "the graph data is another than that which it was given for", Hint: anew})
	}
	for _, c := range basis.Catalogs {
		repository, tag, _ := strings.Cut(c.Image, ":")
		d, err := stored.Repository{Store: j.Store, Name: repository}.Resolve(ctx, tag)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if d != c.Digest {
			j.refuse(api.Reason{Code: "catalog-changed", Where: c.Image, Text: "the catalog is another than that which it was given for", Hint: anew})
		}
	}
	j.verdict.Basis = basis
	return nil
}

// stillWhole looks at the images of a release, and their signatures, wherever they are: a mirror set
// leads to them, as the verdict has found.
func (j *judgement) stillWhole(ctx context.Context, r graphdata.Release) error {
	repository, _, _ := strings.Cut(j.known.Places[r.Digest], ":")
	p := &payload{Release: r, repository: repository, cure: j.cureOf(r)}
	if len(j.known.Signatures[r.Digest]) == 0 {
		j.signed(p)
	}
	all, unread, err := j.images(ctx, p)
	if err == nil {
		err = unread
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		j.refuse(api.Reason{Code: "release-unread", Where: j.at(place{p.repository, r.Digest}), Text: "the images of the release are not known: " + err.Error(), Hint: again, Cure: p.cure})
	}
	for _, w := range all {
		if err := j.anywhere(ctx, p, w); err != nil {
			return err
		}
	}
	return nil
}

// anywhere looks for a repository in which an image is whole, and signed as nodes demand. If there is
// none, the reasons are those of the first.
func (j *judgement) anywhere(ctx context.Context, p *payload, w wanted) error {
	repositories, err := j.Store.Manifests.AnyRepositories(ctx, w.digest)
	if err != nil {
		return err
	}
	if len(repositories) == 0 {
		j.refuse(api.Reason{Code: "image-absent", Where: w.name + "@" + w.digest.String(), Text: "the image of " + w.component + " is not here any more", Hint: again, Cure: p.cure})
	}
	before, told := j.verdict.Reasons, j.told
	first, ofFirst := before, told
	for n, repository := range repositories {
		at := place{repository, w.digest}
		j.verdict.Reasons, j.told = slices.Clone(before), maps.Clone(told)
		found, err := j.whole(ctx, p, w, at)
		if err == nil {
			err = j.attachments(ctx, p, w, at, found)
		}
		if err != nil {
			return err
		}
		if len(j.verdict.Reasons) == len(before) {
			return nil
		}
		if n == 0 {
			first, ofFirst = j.verdict.Reasons, j.told
		}
	}
	j.verdict.Reasons, j.told = first, ofFirst
	return nil
}
