package console

import (
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// historyPage lists past runs.
type historyPage struct {
	listed
	Runs  []api.PastSync
	Views string // "on": changes of views of catalogs are among them
}

func (v *visit) syncHistory() error {
	p := historyPage{Views: v.r.FormValue("views")}
	q := api.PastRequest{Limit: rows + 1, WithoutViews: p.Views == "", After: v.r.FormValue("after")}
	runs, err := v.c.api.PastSyncs(v.r.Context(), q)
	if err != nil {
		return err
	}
	p.Runs = runs[:min(len(runs), rows)]
	if q.After != "" {
		p.First = address("/sync/history", "views", p.Views)
	}
	if len(runs) > rows {
		p.Next = address("/sync/history", "views", p.Views, "after", p.Runs[rows-1].ID)
	}
	return v.show("sync-history", "sync", "sync.history", p)
}

// changesPage is one past run, with tags that it moved.
type changesPage struct {
	listed
	ID      string
	Changes []api.RunChange
}

func (v *visit) syncChanges() error {
	id := v.r.PathValue("id")
	q := api.ChangesRequest{Repository: v.r.FormValue("repository"), Tag: v.r.FormValue("tag"), Limit: rows + 1}
	changes, err := v.c.api.Changes(v.r.Context(), id, q)
	if err != nil {
		return err
	}
	p := changesPage{ID: id, Changes: changes[:min(len(changes), rows)]}
	page := "/sync/history/" + url.PathEscape(id)
	if q.Repository != "" {
		p.First = page
	}
	if len(changes) > rows {
		last := changes[rows-1]
		p.Next = address(page, "repository", last.Repository, "tag", last.Tag)
	}
	return v.show("sync-changes", "sync", v.c.views.text("sync.run", id), p)
}

// rollbackPage is what a rollback would do, or what refuses it.
type rollbackPage struct {
	CSRF, ID    string
	Force       bool
	Plan        api.Rollback
	Moved, Left []api.TagChange // the first of each
	Refused     *problem
	MayForce    bool // what refuses it may be a catalog
}

func (v *visit) askRollback() error {
	p := rollbackPage{CSRF: v.session.CSRF, ID: v.r.PathValue("id"), Force: v.r.FormValue("force") != ""}
	plan, err := v.c.api.Rollback(v.r.Context(), p.ID, api.RollbackRequest{DryRun: true, Force: p.Force})
	if err != nil {
		refused := problemOf(err)
		p.Refused = &refused
	}
	p.Plan, p.Moved, p.Left = plan, plan.Moved[:min(len(plan.Moved), rows)], plan.Left[:min(len(plan.Left), rows)]
	status := http.StatusOK
	if err != nil {
		status = statusOf(err)
		p.MayForce = !p.Force && status != http.StatusNotFound // a run or an image that there is not
	}
	return v.write(status, "sync-rollback", "sync", "sync.rollback.title", p)
}

func (v *visit) rollback() error {
	done, err := v.c.api.Rollback(v.r.Context(), v.r.PathValue("id"), api.RollbackRequest{Force: v.field("force") != ""})
	if err != nil {
		return err
	}
	if done.ID == "" {
		return v.done("/sync/history", v.c.views.text("sync.rollback.nothing"))
	}
	notice, err := v.c.views.count("sync.rollback.done", len(done.Moved))
	if err == nil && len(done.Left) > 0 {
		var left string
		left, err = v.c.views.count("sync.rollback.left", len(done.Left))
		notice += " " + left
	}
	if err != nil {
		return err
	}
	return v.done("/sync/history/"+url.PathEscape(done.ID), notice)
}

// missesPage lists what clients did not get.
type missesPage struct {
	listed
	All      int // misses, whatever the search
	Misses   []api.Miss
	From, To int
	Of       int // that the search finds
}

func (v *visit) syncMisses() error {
	all, err := v.c.api.Misses(v.r.Context())
	if err != nil {
		return err
	}
	q := api.Page{Search: v.asked().Search}
	var found []api.Miss
	for _, m := range all {
		if strings.Contains(m.Repository+":"+m.Reference, q.Search) {
			found = append(found, m)
		}
	}
	after := min(v.after(), len(found))
	p := missesPage{All: len(all), Misses: found[after:min(after+rows, len(found))], Of: len(found)}
	last := ""
	if p.From, p.To = after+1, after+len(p.Misses); p.To < p.Of {
		last = strconv.Itoa(p.To)
	}
	if after > 0 {
		q.After = strconv.Itoa(after)
	}
	p.listed = list("/sync/misses", q, last)
	return v.show("sync-misses", "sync", "sync.misses", p)
}

func (v *visit) missedImageSet() error {
	set, err := v.c.api.MissedImageSet(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("sync-misses-set", "sync", "sync.misses.set", set)
}

// clearPage asks whether the misses are to be forgotten.
type clearPage struct {
	CSRF string
	All  int
}

func (v *visit) askClearMisses() error {
	all, err := v.c.api.Misses(v.r.Context())
	if err != nil {
		return err
	}
	return v.show("sync-misses-clear", "sync", "sync.misses.clear.title", clearPage{v.session.CSRF, len(all)})
}

func (v *visit) clearMisses() error {
	if err := v.c.api.ClearMisses(v.r.Context()); err != nil {
		return err
	}
	return v.done("/sync/misses", v.c.views.text("sync.misses.cleared"))
}
