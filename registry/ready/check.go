package ready

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
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
		if !slices.ContainsFunc(j.known.Releases, func(k graphdata.Release) bool {
			return k.Digest == r.Digest && k.Version.String() == r.Version && k.Arch == r.Architecture
		}) {
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
