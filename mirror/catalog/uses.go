package catalog

import (
	"context"

	"github.com/mirror-appliance/appliance/mirror/operator"
)

// Uses returns the images that the bundles of the catalog in an image need, each with the bundles. It
// works in dir.
func Uses(ctx context.Context, source Source, ref, dir string) (map[string][]operator.Bundle, error) {
	unpacked, err := unpack(ctx, source, ref, dir)
	if err != nil {
		return nil, err
	}
	all, err := unpacked.list(ctx, nil)
	uses := map[string][]operator.Bundle{}
	for _, i := range all {
		uses[i.Image] = append(uses[i.Image], operator.Bundle{Package: i.Package, Name: i.Bundle})
	}
	return uses, err
}
