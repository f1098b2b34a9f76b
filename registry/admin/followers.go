package admin

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/role"
	"github.com/mirror-appliance/appliance/registry/store"
)

// maxWaiting bounds the requests that wait for a change. Others are answered at once.
const maxWaiting = 64

func (h *Handler) registerFollower(r *http.Request, q api.NewFollower) (api.RegisteredFollower, error) {
	at, err := h.store.Feed.Register(r.Context(), store.Follower{ID: q.ID, Address: q.Address, CA: q.CA, Token: q.Token, Users: q.Users}, q.Position)
	if err == nil && at != q.Position {
		h.audit(r, "follower registered", "id", q.ID, "address", q.Address, "users", q.Users)
	}
	if err == nil && h.family != nil {
		err = h.family.Registered(r.Context(), role.Peer{ID: q.ID, Address: q.Address, CA: q.CA, Token: q.Token})
	}
	return api.RegisteredFollower{Position: at}, err
}

func (h *Handler) listFollowers(r *http.Request, _ api.None) ([]api.Follower, error) {
	followers, err := h.store.Feed.List(r.Context())
	all := []api.Follower{}
	for _, f := range followers {
		all = append(all, api.Follower{ID: f.ID, Address: f.Address, Users: f.Users, Started: f.Started, Seen: f.Seen, Changes: f.Pending, Relist: f.Relist, Listing: f.Listing})
	}
	return all, err
}

// removeFollower forgets a follower, and an appliance that was not told yet of this primary. One may be both.
func (h *Handler) removeFollower(r *http.Request, _ api.None) (api.None, error) {
	id := r.PathValue("id")
	err := h.store.Feed.Remove(r.Context(), id)
	if err == nil {
		h.audit(r, "follower removed", "id", id)
	}
	if h.family == nil || err != nil && !errors.Is(err, store.ErrNotFound) {
		return api.None{}, err
	}
	if err == nil {
		if err := h.family.Removed(r.Context(), id); err != nil {
			return api.None{}, err
		}
	}
	address, ok, ferr := h.family.Forget(r.Context(), id)
	if ok {
		h.audit(r, "appliance forgotten", "id", id, "address", address)
	}
	if ok || ferr != nil {
		err = ferr
	}
	return api.None{}, err
}

// getChanges returns a part of the feed, and waits for a change while there is none.
func (h *Handler) getChanges(r *http.Request, _ api.None) (api.Changes, error) {
	query := r.URL.Query()
	limit, seconds := store.MaxChanges, 0
	for p, value := range map[string]*int{api.ChangesLimit.Name: &limit, api.ChangesWait.Name: &seconds} {
		if n, err := strconv.Atoi(query.Get(p)); err == nil { // else there is none, as checkQuery has seen
			*value = n
		}
	}
	shown := seconds > 0 // a follower waits for more once it shows what came
	if h.waiting.Add(1) > maxWaiting {
		seconds = 0
	}
	defer h.waiting.Add(-1)
	timer := time.NewTimer(time.Duration(min(seconds, api.MaxWait)) * time.Second)
	defer timer.Stop()
	for {
		changed := h.store.Feed.Changed() // before the read, so that no change is missed
		page, err := h.store.Feed.Page(r.Context(), query.Get(api.ForFollower.Name), query.Get(api.SincePoint.Name), shown, limit)
		if err != nil || seconds <= 0 || len(page.Changes) > 0 || !page.CaughtUp {
			return changesOf(page), err
		}
		select {
		case <-changed:
		case <-timer.C:
			return changesOf(page), nil
		case <-h.drain.Done():
			return changesOf(page), nil
		case <-r.Context().Done():
			return api.Changes{}, r.Context().Err()
		}
	}
}

func changesOf(p store.Page) api.Changes {
	told := api.Changes{Changes: []api.Change{}, Next: p.Next, CaughtUp: p.CaughtUp, Left: p.Pending}
	for _, c := range p.Changes {
		told.Changes = append(told.Changes, api.Change{Kind: c.Kind, Repository: c.Repository, Name: c.Name, State: c.State})
	}
	return told
}
