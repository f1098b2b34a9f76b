package client

import (
	"context"
	"encoding/json"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// originsBytes bounds what one request says of origins, well below api.MaxList.
const originsBytes = 1 << 20

// Origins records what the tags of the run are mirrors of, by repository, tag and origin.
func (r *Run) Origins(ctx context.Context, of map[string]map[string]map[string]json.RawMessage) error {
	var some []api.Origin
	size := 0
	send := func() error {
		if len(some) == 0 {
			return nil
		}
		_, err := call(ctx, r.client, api.SetOrigins, api.Origins{Origins: some}, r.id)
		some, size = nil, 0
		return err
	}
	for repo, tags := range of {
		for tag, origins := range tags {
			for origin, about := range origins {
				some = append(some, api.Origin{Repository: repo, Tag: tag, Origin: origin, About: about})
				if size += len(repo) + len(tag) + len(origin) + len(about); size < originsBytes {
					continue
				}
				if err := send(); err != nil {
					return err
				}
			}
		}
	}
	return send()
}

// Origins returns what the tags of the registry are mirrors of, by repository, tag and origin.
func (c *Client) Origins(ctx context.Context) ([]api.Origin, error) {
	var all []api.Origin
	for q := (&api.OriginsRequest{}); q != nil; {
		part, err := call(ctx, c, api.ListOrigins, *q)
		if err != nil {
			return nil, err
		}
		all = append(all, part.Origins...)
		q = part.Next
	}
	return all, nil
}
