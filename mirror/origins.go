package mirror

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
)

// originRecorder is a destination that records what its tags are mirrors of, by repository, tag and
// origin: JSON that Resources reads. It becomes visible with the tags, and moves with them.
type originRecorder interface {
	Origins(ctx context.Context, of map[string]map[string]map[string]json.RawMessage) error
}

// recordOrigins gives the destination the origins of what is complete, if it records them.
func (x *execution) recordOrigins(ctx context.Context, p *plan.Plan) error {
	recorder, ok := x.dst.(originRecorder)
	if !ok {
		return nil
	}
	for some := range slices.Chunk(x.complete(p.Images), atOnce) {
		all := map[string]map[string]map[string]json.RawMessage{}
		for _, image := range some {
			about, err := json.Marshal(x.mirroredOf(image))
			if err != nil {
				return err
			}
			if all[image.Repository] == nil {
				all[image.Repository] = map[string]map[string]json.RawMessage{}
			}
			if all[image.Repository][image.Tag] == nil {
				all[image.Repository][image.Tag] = map[string]json.RawMessage{}
			}
			all[image.Repository][image.Tag][image.Origin] = about
		}
		if err := x.repeat(ctx, "record origins", func() error { return recorder.Origins(ctx, all) }); err != nil {
			return fmt.Errorf("record origins: %w", err)
		}
	}
	return nil
}

// Origin is what a tag of a registry is a mirror of, as a run recorded it.
type Origin struct {
	Repository, Tag string
	About           json.RawMessage
	Recorded        time.Time
}

// image returns what was recorded.
func (o Origin) image() (i mirroredImage, err error) {
	if err := json.Unmarshal(o.About, &i); err != nil {
		return i, fmt.Errorf("the origin of %s:%s: %w", o.Repository, o.Tag, err)
	}
	return i, nil
}

// mirroredAt returns what a registry has, by what its runs recorded.
func mirroredAt(registry string, origins []Origin) (mirrored, error) {
	all := mirrored{}
	for _, o := range origins {
		i, err := o.image()
		if err != nil {
			return nil, err
		}
		at := registry + "/" + o.Repository + ":" + o.Tag
		all[at] = append(all[at], i)
	}
	return all, nil
}

// Resources renders the cluster resources of what a registry has in the repositories that a user
// sees, for the name that clusters reach it by. They have the time of the last origin, so that
// they stay the same until their content changes. A catalog has the same name for each user.
func Resources(registry, version string, origins []Origin, sees func(repository string) bool) ([]resources.File, error) {
	all, err := mirroredAt(registry, origins)
	if err != nil {
		return nil, err
	}
	options, graph := resources.Options{Version: version}, Origin{}
	all.name(registry, options)
	seen := slices.DeleteFunc(slices.Clone(origins), func(o Origin) bool { return !sees(o.Repository) })
	these := mirrored{}
	for _, o := range seen {
		at := registry + "/" + o.Repository + ":" + o.Tag
		these[at] = all[at]
		for _, i := range all[at] {
			if i.Type == plan.Graph && o.Recorded.After(graph.Recorded) {
				graph = o
			}
			options.ByRepository = options.ByRepository || i.Joined
		}
		if o.Recorded.After(options.Created) {
			options.Created = o.Recorded
		}
	}
	return resources.Render(these.resources(registry, graph.Repository), options)
}

// CatalogSource returns the name of the CatalogSource of a view at a repository:tag of a registry,
// which it has already or is to get.
func CatalogSource(registry string, origins []Origin, view string) (name string, err error) {
	all, err := mirroredAt(registry, origins)
	if err != nil {
		return "", err
	}
	at := registry + "/" + view
	all.name(registry, resources.Options{})
	if len(all[at]) == 0 {
		all[at] = []mirroredImage{{Type: plan.CatalogView}}
		all.name(registry, resources.Options{})
	}
	return all.names(at).Source, nil
}
