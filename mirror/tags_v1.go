package mirror

import (
	"context"
	"errors"
	"io/fs"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/plan"
)

// latestTag is the tag that oc-mirror v1 gives an image without one.
const latestTag = "latest"

// severalV1 returns the tag of such an image if its repository has several of them: of its digest, as version 1 has it
// in archives. Directly version 1 gives latest to each, so that chance decides which is kept.
func severalV1(d digest.Digest) string {
	const shown = 8
	return d.Encoded()[:shown]
}

// untaggedV1 reports whether version 1 makes the tag of an image, which is additional or one of a chart, and is named
// by digest alone.
func untaggedV1(i *plan.Image) bool {
	return (i.Type == plan.Generic || i.Type == plan.Helm) && i.Reference.Digest != "" && i.Reference.Tag == "" &&
		i.Tag == i.Reference.DestinationTag()
}

// tagAsV1 gives images of a plan that are named by digest alone the tags of version 1.
func tagAsV1(images []*plan.Image) {
	latest := map[string]map[string]bool{} // what would be latest, by repository
	for _, i := range images {
		if untaggedV1(i) || i.Tag == latestTag {
			if latest[i.Repository] == nil {
				latest[i.Repository] = map[string]bool{}
			}
			latest[i.Repository][i.Reference.Ref()] = true
		}
	}
	for _, i := range images {
		switch {
		case !untaggedV1(i):
		case len(latest[i.Repository]) > 1:
			i.Tag = severalV1(i.Reference.Digest)
		default:
			i.Tag = latestTag
		}
	}
}

// foundV1 gives images that are named by digest alone those tags of version 1 that name them at a registry. Where none
// does, it is latest that may have been theirs, unless another image has become that since.
func foundV1(ctx context.Context, from Pruner, images []*plan.Image) (all []*plan.Image, err error) {
	for _, i := range images {
		if !untaggedV1(i) {
			all = append(all, i)
			continue
		}
		var found, absent []string
		for _, tag := range []string{latestTag, severalV1(i.Reference.Digest)} {
			switch desc, _, err := from.Manifest(ctx, i.Repository, tag); {
			case errors.Is(err, fs.ErrNotExist):
				absent = append(absent, tag)
			case err != nil:
				return nil, err
			case desc.Digest == i.Reference.Digest:
				found = append(found, tag)
			}
		}
		if len(found) == 0 {
			found = absent[:min(1, len(absent))]
		}
		for _, tag := range found {
			as := *i
			as.Tag = tag
			all = append(all, &as)
		}
	}
	return all, nil
}
