package client

import (
	"context"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// Mirrors lists the image sets that the configuration names.
func (c *Client) Mirrors(ctx context.Context) ([]api.MirrorState, error) {
	return call(ctx, c, api.ListMirrors, api.None{})
}

// BeginMirror begins a run of the daemon's own.
func (c *Client) BeginMirror(ctx context.Context, imageSet string) error {
	return detach(ctx, c, api.Mirror.Path, api.MirrorRequest{ImageSet: imageSet, Detach: true})
}

// PlanMirror plans a run of an image set.
func (c *Client) PlanMirror(ctx context.Context, imageSet string, progress func(api.MirrorProgress)) (api.MirrorPlan, error) {
	return run(ctx, c, api.PlanMirror, api.MirrorRequest{ImageSet: imageSet}, progress)
}

// BeginMirrorPlan begins a plan of the daemon's own.
func (c *Client) BeginMirrorPlan(ctx context.Context, imageSet string) error {
	return detach(ctx, c, api.PlanMirror.Path, api.MirrorRequest{ImageSet: imageSet, Detach: true})
}

// MirrorPlan returns the last plan of an image set.
func (c *Client) MirrorPlan(ctx context.Context, imageSet string) (api.MirrorPlanState, error) {
	return call(ctx, c, api.GetMirrorPlan, api.ImageSetName{ImageSet: imageSet})
}

// StopMirror ends a run, or the making of a plan.
func (c *Client) StopMirror(ctx context.Context, q api.MirrorStop) error {
	_, err := call(ctx, c, api.StopMirror, q)
	return err
}

// ImageSet returns the file of an image set.
func (c *Client) ImageSet(ctx context.Context, imageSet string) (api.ImageSetFile, error) {
	return call(ctx, c, api.GetImageSet, api.ImageSetName{ImageSet: imageSet})
}

// EditImageSet returns the text of an image set after changes, and what is wrong with it. Nothing is kept.
func (c *Client) EditImageSet(ctx context.Context, q api.ImageSetEdits) (api.EditedImageSet, error) {
	return call(ctx, c, api.EditImageSet, q)
}

// MirrorReport returns the report of the last run of an image set.
func (c *Client) MirrorReport(ctx context.Context, q api.MirrorReportRequest) (api.MirrorReport, error) {
	return call(ctx, c, api.GetMirrorReport, q)
}

// Changes lists tags that a run moved.
func (c *Client) Changes(ctx context.Context, run string, q api.ChangesRequest) ([]api.RunChange, error) {
	return call(ctx, c, api.ListChanges, q, run)
}

// PlanDraft plans a text of an image set.
func (c *Client) PlanDraft(ctx context.Context, q api.DraftRequest, progress func(api.MirrorProgress)) (api.MirrorPlan, error) {
	q.Detach = false
	return run(ctx, c, api.PlanDraft, q, progress)
}

// BeginDraft begins a plan of a text, of the daemon's own.
func (c *Client) BeginDraft(ctx context.Context, q api.DraftRequest) error {
	q.Detach = true
	return detach(ctx, c, api.PlanDraft.Path, q)
}

// DraftPlan returns the last plan of a text.
func (c *Client) DraftPlan(ctx context.Context) (api.DraftPlanState, error) {
	return call(ctx, c, api.GetDraftPlan, api.None{})
}

// StopDraft ends the making of a plan of a text.
func (c *Client) StopDraft(ctx context.Context) error {
	_, err := call(ctx, c, api.StopDraft, api.None{})
	return err
}
