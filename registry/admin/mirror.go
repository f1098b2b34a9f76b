package admin

import (
	"context"
	"fmt"
	"net/http"
	"path"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
)

// Mirrors are the image sets of the configuration. A file that it does not name is an error.
type Mirrors interface {
	List(ctx context.Context) []api.MirrorState
	// Job returns what runs an image set, and Plan what plans that.
	Job(file string) (*jobs.Runner[api.MirrorRequest, api.MirrorProgress, api.MirrorResult], error)
	Plan(file string) (*jobs.Runner[api.MirrorRequest, api.MirrorProgress, api.MirrorPlan], error)
	LastPlan(ctx context.Context, file string) (api.MirrorPlanState, error)
	// Stop ends a run or the making of a plan, and reports whether there is any.
	Stop(ctx context.Context, q api.MirrorStop) (running bool, err error)
	// Text returns the file without logins, and Report the report of the last run.
	Text(file string) (api.ImageSetFile, error)
	Report(q api.MirrorReportRequest) (api.MirrorReport, error)
	// Edit returns the text of an image set after changes, and what is wrong with it.
	Edit(q api.ImageSetEdits) (api.EditedImageSet, error)
	// Draft returns what plans a text, DraftPlan the last plan of one, and StopDraft ends the making of one.
	Draft() *jobs.Runner[api.DraftRequest, api.MirrorProgress, api.MirrorPlan]
	DraftPlan(ctx context.Context) api.DraftPlanState
	StopDraft(ctx context.Context) (running bool)
	// Missed returns an image set that mirrors what clients did not get.
	Missed(ctx context.Context, all []api.Miss) (string, error)
}

// UnknownImageSet is the error of an image set that the configuration does not name: that of a host, where other hosts
// have others.
func UnknownImageSet(file, host string) error {
	of := ""
	if host != "" {
		of = " of host " + host
	}
	return badRequest(fmt.Sprintf("the configuration%s names no image set %q", of, file),
		"name one of sync in config.yaml, as it is there; after a change of that file restart the service")
}

// handleMirrors registers the calls of image sets.
func (h *Handler) handleMirrors() {
	handleMirror(h, api.Mirror, func(file string) (*jobs.Runner[api.MirrorRequest, api.MirrorProgress, api.MirrorResult], error) {
		return h.mirrors.Job(file)
	})
	handleMirror(h, api.PlanMirror, func(file string) (*jobs.Runner[api.MirrorRequest, api.MirrorProgress, api.MirrorPlan], error) {
		return h.mirrors.Plan(file)
	})
	handle(h, api.ListMirrors, h.listMirrors)
	handle(h, api.GetMirrorPlan, h.getMirrorPlan)
	handle(h, api.StopMirror, h.stopMirror)
	handle(h, api.GetImageSet, h.getImageSet)
	handle(h, api.GetMirrorReport, h.getMirrorReport)
	handle(h, api.EditImageSet, h.editImageSet)
	h.handleDraft()
	handle(h, api.MissedImageSet, h.missedImageSet)
}

// handleMirror makes the runner of an image set answer a job.
func handleMirror[R any](h *Handler, job api.Job[api.MirrorRequest, api.MirrorProgress, R],
	of func(file string) (*jobs.Runner[api.MirrorRequest, api.MirrorProgress, R], error)) {
	routeJob(h, job, func(w http.ResponseWriter, r *http.Request) {
		var q api.MirrorRequest
		var runner *jobs.Runner[api.MirrorRequest, api.MirrorProgress, R]
		err := h.isDaemon()
		if err == nil {
			err = decode(r, api.MaxJSON, &q)
		}
		if err == nil {
			runner, err = of(q.ImageSet)
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		runJob(h, w, r, q, runner, func() { h.audit(r, path.Base(job.Path)+" began", "imageSet", q.ImageSet) })
	})
}

func (h *Handler) listMirrors(r *http.Request, _ api.None) ([]api.MirrorState, error) {
	if err := h.isDaemon(); err != nil {
		return nil, err
	}
	return h.mirrors.List(r.Context()), nil
}

func (h *Handler) getMirrorPlan(r *http.Request, q api.ImageSetName) (api.MirrorPlanState, error) {
	return h.mirrors.LastPlan(r.Context(), q.ImageSet)
}

func (h *Handler) getImageSet(_ *http.Request, q api.ImageSetName) (api.ImageSetFile, error) {
	return h.mirrors.Text(q.ImageSet)
}

func (h *Handler) getMirrorReport(_ *http.Request, q api.MirrorReportRequest) (api.MirrorReport, error) {
	return h.mirrors.Report(q)
}

func (h *Handler) editImageSet(_ *http.Request, q api.ImageSetEdits) (api.EditedImageSet, error) {
	if err := h.isDaemon(); err != nil {
		return api.EditedImageSet{}, err
	}
	return h.mirrors.Edit(q)
}

// stopMirror ends a run or the making of a plan. That there is none is no error: it may have ended just now.
func (h *Handler) stopMirror(r *http.Request, q api.MirrorStop) (api.None, error) {
	running, err := h.mirrors.Stop(r.Context(), q)
	what := "mirror"
	if q.Plan {
		what = "plan"
	}
	if running {
		h.audit(r, what+" stopped", "imageSet", q.ImageSet)
	}
	return api.None{}, err
}

// NoReport is the error of an image set without a report.
func NoReport(file string) error {
	return &refusal{hint.New(fmt.Errorf("no run of %s has left a report", file), "appliance sync "+file+" runs it"), http.StatusNotFound}
}

// BadImageSet is the error of a text of an image set that cannot be changed as it is asked for.
func BadImageSet(err error) error { return badRequest(err.Error(), hint.Of(err)) }

// handleDraft registers the calls of the plan of a text.
func (h *Handler) handleDraft() {
	routeJob(h, api.PlanDraft, func(w http.ResponseWriter, r *http.Request) {
		var q api.DraftRequest
		err := h.isDaemon()
		if err == nil {
			err = decode(r, q.MaxBytes(), &q)
		}
		if err != nil {
			h.refuse(w, r, err)
			return
		}
		runJob(h, w, r, q, h.mirrors.Draft(), func() { h.audit(r, "draft began", "imageSet", q.ImageSet) })
	})
	handle(h, api.GetDraftPlan, func(r *http.Request, _ api.None) (api.DraftPlanState, error) {
		if err := h.isDaemon(); err != nil {
			return api.DraftPlanState{}, err
		}
		return h.mirrors.DraftPlan(r.Context()), nil
	})
	handle(h, api.StopDraft, func(r *http.Request, _ api.None) (api.None, error) {
		err := h.isDaemon()
		if err == nil && h.mirrors.StopDraft(r.Context()) {
			h.audit(r, "draft stopped")
		}
		return api.None{}, err
	})
}
