package mirror

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/metadata"
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

// tagger is a Pruner that lists the tags of a repository.
type tagger interface {
	Tags(ctx context.Context, repo string) ([]string, error)
}

// tagsV1 returns the tags that version 1 has given an image at a registry, and that name it. Those of the components of
// releases are not in its metadata: they are among the tags of the repository, which has nothing else.
func tagsV1(ctx context.Context, from Pruner, i *plan.Image, a metadata.Association) (tags []string, err error) {
	all := []string{a.TagSymlink, catalog.TagV1(a.Name)}
	if of, ok := from.(tagger); ok && i.Type.Class().Whole {
		listed, err := of.Tags(ctx, i.Repository)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
		all = append(all, listed...)
	}
	for _, tag := range all {
		if image.CheckTag(tag) != nil {
			continue
		}
		desc, _, err := from.Manifest(ctx, i.Repository, tag)
		if err == nil && desc.Digest == i.Digest && !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	return tags, nil
}
