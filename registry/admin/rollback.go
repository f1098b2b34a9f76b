package admin

import (
	"net/http"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

func (h *Handler) listSyncs(r *http.Request, q api.PastRequest) ([]api.PastSync, error) {
	without, most := "", -1
	if q.WithoutViews {
		without = api.ViewRuns
	}
	if q.Limit > 0 {
		most = q.Limit
	}
	past, err := h.store.Runs.Past(r.Context(), most, without, q.After)
	all := []api.PastSync{}
	for _, run := range past {
		all = append(all, PastSync(run))
	}
	return all, err
}

func (h *Handler) listChanges(r *http.Request, q api.ChangesRequest) ([]api.RunChange, error) {
	moved, err := h.store.Runs.Changes(r.Context(), r.PathValue("id"), q.Repository, q.Tag, q.Limit)
	all := []api.RunChange{}
	for _, c := range moved {
		all = append(all, api.RunChange{TagChange: changeOf(c.TagChange), Now: c.Now.String()})
	}
	return all, err
}

// PastSync returns a run of the store as the control API has it.
func PastSync(run store.PastRun) api.PastSync {
	return api.PastSync{ID: run.ID, Name: run.Name, Committed: run.Committed,
		Tags: run.Tags, RollsBack: run.RollsBack(), View: api.ViewOfRun(run.Name)}
}

func (h *Handler) rollback(r *http.Request, q api.RollbackRequest) (api.Rollback, error) {
	if !q.DryRun && h.family != nil {
		within, leave, err := h.family.Enter(r.Context())
		if err != nil {
			return api.Rollback{}, err
		}
		defer leave()
		r = r.WithContext(within)
	}
	id, roll := r.PathValue("id"), h.store.Runs.Rollback
	if q.DryRun {
		roll = h.store.Runs.PlanRollback
	}
	if !q.Force {
		plan, err := h.store.Runs.PlanRollback(r.Context(), id)
		if err == nil {
			err = h.catalogs.CheckRollback(r.Context(), plan.Moved)
		}
		if err != nil {
			return api.Rollback{}, err
		}
	}
	done, err := roll(r.Context(), id)
	if err != nil {
		return api.Rollback{}, err
	}
	if done.ID != "" {
		h.audit(r, "sync rolled back", "id", id, "tags", len(done.Moved), "rollback", done.ID)
	}
	return api.Rollback{ID: done.ID, Moved: changes(done.Moved), Left: changes(done.Left)}, nil
}

func changes(all []store.TagChange) []api.TagChange {
	told := []api.TagChange{}
	for _, c := range all {
		told = append(told, changeOf(c))
	}
	return told
}

func changeOf(c store.TagChange) api.TagChange {
	return api.TagChange{Repository: c.Repository, Tag: c.Name, Was: c.Was.String(), Became: c.Became.String()}
}
