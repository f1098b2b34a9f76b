package updates

import (
	"cmp"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Describe returns what the service offers, and the graph of a channel if q names one. It reads the store
// first, since the command before, such as updates load, may have changed it.
func (s *Service) Describe(ctx context.Context, q api.UpdatesRequest) (api.Updates, error) {
	if err := s.Refresh(ctx); err != nil && (ctx.Err() != nil || s.current.Load().made.IsZero()) {
		return api.Updates{}, err
	}
	now := s.current.Load()
	u := api.Updates{Why: now.why, Computed: now.made, Releases: []api.UpdateRelease{}, Problems: []api.UpdateProblem{}}
	for _, p := range now.problems {
		u.Problems = append(u.Problems, api.UpdateProblem(p))
	}
	all := slices.SortedFunc(slices.Values(now.releases), func(a, b graphdata.Release) int {
		return cmp.Or(a.Version.Compare(b.Version), strings.Compare(a.Arch, b.Arch), strings.Compare(a.Payload, b.Payload))
	})
	for _, r := range all {
		one := api.UpdateRelease{Version: r.Version.String(), Arch: r.Arch, Payload: r.Payload, Channels: []string{}, Signatures: len(now.signatures[r.Digest.Encoded()])}
		if now.graph != nil {
			one.Channels = now.graph.ChannelsOf(r)
		}
		u.Releases = append(u.Releases, one)
	}
	if now.graph == nil {
		return u, nil
	}
	u.GraphData = &api.GraphData{Image: now.data.Repository + ":" + now.data.Name, Digest: now.data.Digest, Since: now.data.moved, Version: now.data.data.Version}
	if q.Channel == "" {
		return u, nil
	}
	arch := cmp.Or(q.Arch, defaultArch)
	for _, v := range now.data.data.Listed(q.Channel, arch) {
		u.Listed = append(u.Listed, v.String())
	}
	answer, err := now.answers.of(now.graph, q.Channel, arch)
	if err == nil {
		u.Graph = json.RawMessage(answer.plain)
	}
	return u, err
}

// State returns what the service offers in numbers, nil if there is no release.
func (s *Service) State() *api.UpdatesState {
	now := s.current.Load()
	if len(now.releases) == 0 {
		return nil
	}
	u := &api.UpdatesState{Releases: len(now.releases), Problems: len(now.problems)}
	if now.graph != nil {
		u.Since = &now.data.moved
	}
	return u
}
