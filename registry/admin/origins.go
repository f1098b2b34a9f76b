package admin

import (
	"encoding/json"
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

// originsAtOnce bounds the origins of one answer: each may have a signature.
const originsAtOnce = 1000

func setOrigins(r *http.Request, run *store.Run, q api.Origins) (api.None, error) {
	all := map[string]map[string]map[string]json.RawMessage{}
	for _, o := range q.Origins {
		if all[o.Repository] == nil {
			all[o.Repository] = map[string]map[string]json.RawMessage{}
		}
		if all[o.Repository][o.Tag] == nil {
			all[o.Repository][o.Tag] = map[string]json.RawMessage{}
		}
		all[o.Repository][o.Tag][o.Origin] = o.About
	}
	return api.None{}, run.Origins(r.Context(), all)
}

// listOrigins lists a part of what the tags of the registry are mirrors of.
func (h *Handler) listOrigins(r *http.Request, q api.OriginsRequest) (a api.Origins, err error) {
	after := store.Origin{Repository: q.Repository, Tag: q.Tag, Origin: q.Origin}
	some, err := h.store.Tags.Origins(r.Context(), after, originsAtOnce)
	if err != nil {
		return a, err
	}
	a.Origins = []api.Origin{}
	for _, o := range some {
		a.Origins = append(a.Origins, api.Origin{Repository: o.Repository, Tag: o.Tag, Digest: o.Digest,
			Origin: o.Origin, About: o.About, Recorded: o.Recorded})
	}
	if len(some) == originsAtOnce {
		last := some[len(some)-1]
		a.Next = &api.OriginsRequest{Repository: last.Repository, Tag: last.Tag, Origin: last.Origin}
	}
	return a, nil
}
