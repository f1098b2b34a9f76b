package adopt

import (
	"context"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
)

// Missing lists the manifests and tags of a source that the appliance lacks. It asks run, which is
// not to be committed. A tag that names something else by now is there.
func Missing(ctx context.Context, source Source, run Destination, existing func(repository, tag string) digest.Digest) ([]Problem, error) {
	var missing []Problem
	names, err := source.Repositories(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		content, err := source.Content(ctx, name)
		if err != nil {
			return nil, err
		}
		if err := image.CheckRepository(name); err != nil {
			missing = append(missing, Problem{Repository: image.Quote(name), Name: "*", What: err.Error()})
			continue
		}
		lacks := func(reference, kind string) {
			missing = append(missing, Problem{Repository: name, Name: reference, What: "the appliance does not have this " + kind})
		}
		_, have, _, err := run.Existing(ctx, nil, map[string][]digest.Digest{name: content.Manifests})
		if err != nil {
			return nil, err
		}
		for _, d := range content.Manifests {
			if !slices.Contains(have[name], d) {
				lacks(d.String(), "manifest")
			}
		}
		for tag := range content.Tags {
			if existing(name, tag) == "" {
				lacks(tag, "tag")
			}
		}
	}
	return missing, nil
}
