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

// Resources renders the cluster resources of all that a registry has, for the name that clusters
// reach it by. They have the time of the last origin, so that they change with what they say only.
func Resources(registry, version string, origins []Origin) ([]resources.File, error) {
	all, graph := mirrored{}, Origin{}
	options := resources.Options{Version: version}
	for _, o := range origins {
		var i mirroredImage
		if err := json.Unmarshal(o.About, &i); err != nil {
			return nil, fmt.Errorf("the origin of %s:%s: %w", o.Repository, o.Tag, err)
		}
		at := registry + "/" + o.Repository + ":" + o.Tag
		all[at] = append(all[at], i)
		if i.Type == plan.Graph && o.Recorded.After(graph.Recorded) {
			graph = o
		}
		if o.Recorded.After(options.Created) {
			options.Created = o.Recorded
		}
		options.ByRepository = options.ByRepository || i.Joined
	}
	return resources.Render(all.resources(registry, graph.Repository), options)
}
