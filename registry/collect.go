package registry

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/gc"
	"github.com/mirror-appliance/appliance/mirror/medium"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/role"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	// Whatever the grace period of blobs, a push can resume its upload for an hour, and a repeated
	// sync finds the blobs of the one before for a day.
	minUploadGrace = time.Hour
	minRunGrace    = 24 * time.Hour
	// planListed bounds the blobs that a dry run lists: an emptied registry has millions.
	planListed = 10_000
)

// collector does collections.
type collector struct {
	store interface {
		gc.Store
		RemoveUntagged(ctx context.Context, repo string, before time.Time) (removed int, err error)
	}
	// changes calls what deletes, unless another appliance decides what there is.
	changes func(ctx context.Context, change func(context.Context) error) error
	grace   time.Duration
	log     *slog.Logger
	last    *jobs.Note[api.GCResult] // without dry runs

	planned *board[api.GCProgress, api.GCResult] // by the last dry run that was detached; none: something was collected since

	blobs, bytes atomic.Int64 // removed since the start
}

func (c *collector) kind(drain context.Context) jobs.Kind[api.GCRequest, api.GCProgress, api.GCResult] {
	kind := jobs.Kind[api.GCRequest, api.GCProgress, api.GCResult]{
		Name: "collection", Run: c.run, DryRun: func(q api.GCRequest) bool { return q.DryRun },
		Drain: drain, Log: c.log,
	}
	if last := c.last.Get(); last != nil && last.Error == "" {
		kind.LastSuccess = last.Ended
	}
	return kind
}

// run plans and, unless it is a dry run, executes.
func (c *collector) run(ctx context.Context, q api.GCRequest, progress func(api.GCProgress)) (api.GCResult, error) {
	result := api.GCResult{DryRun: q.DryRun, Began: time.Now()}
	grace := c.grace
	if q.GracePeriod != nil {
		grace = time.Duration(*q.GracePeriod)
	}
	err := c.planAndExecute(ctx, cutoff(result.Began, grace), &result, progress)
	result.Ended = time.Now()
	switch {
	case !q.DryRun:
		c.planned.keep(nil)
		c.ended(ctx, result, err)
	case q.Detach:
		planned := result
		planned.Error = stopReason(ctx, err)
		c.planned.keep(&planned)
	}
	return result, err
}

func (c *collector) planAndExecute(ctx context.Context, o gc.Options, result *api.GCResult,
	progress func(api.GCProgress)) error {
	now := api.GCProgress{Began: result.Began, DryRun: result.DryRun}
	progress(now)
	o.Found = func(sum gc.Result) {
		now.Of = sum
		progress(now)
	}
	if !result.DryRun { // a file that another has replaced, or whose name was deleted
		err := c.changes(ctx, func(ctx context.Context) error {
			_, err := c.store.RemoveUntagged(ctx, medium.Repository, o.Before)
			return err
		})
		if err != nil && !errors.As(err, new(*role.ReadOnlyError)) {
			return err
		}
	}
	plan, err := gc.MakePlan(ctx, c.store, o)
	if err != nil {
		return fmt.Errorf("plan a collection: %w", err)
	}
	now.Planned = true
	progress(now)
	if result.DryRun {
		result.Result = plan.Sum
		listed := min(len(plan.Blobs), planListed)
		result.Plan, result.More = append([]gc.Blob{}, plan.Blobs[:listed]...), len(plan.Blobs)-listed
		return nil
	}
	result.Result, err = plan.Execute(ctx, c.store, func(done gc.Result) {
		now.Done = done
		progress(now)
	})
	if err != nil {
		return fmt.Errorf("collect: %w", err)
	}
	return nil
}

func cutoff(now time.Time, grace time.Duration) gc.Options {
	return gc.Options{
		Before:        now.Add(-grace),
		UploadsBefore: now.Add(-max(grace, minUploadGrace)),
		RunsBefore:    now.Add(-max(grace, minRunGrace)),
	}
}

// ended counts, logs and keeps the result of a collection, also when ctx has ended.
func (c *collector) ended(ctx context.Context, r api.GCResult, err error) {
	c.blobs.Add(int64(r.Blobs))
	c.bytes.Add(r.Bytes)
	r.Error = stopReason(ctx, err)
	c.log.Info("collected", "blobs", r.Blobs, "uploads", r.Uploads, "runs", r.Runs, "bytes", r.Bytes,
		"took", r.Ended.Sub(r.Began).Round(time.Millisecond), "complete", err == nil)
	c.last.Set(context.WithoutCancel(ctx), r)
}

// stopReason returns for people why work stopped half way, and "" if it did not.
func stopReason(ctx context.Context, err error) string {
	switch {
	case err == nil:
		return ""
	case ctx.Err() != nil:
		return "it was stopped"
	}
	return err.Error()
}

func (d *daemon) verifyKind() jobs.Kind[api.VerifyRequest, api.VerifyProgress, store.VerifyReport] {
	d.verifying = newBoard[api.VerifyProgress, struct{}](d, "verification", func(p *api.VerifyProgress, host string) { p.Host = host })
	return jobs.Kind[api.VerifyRequest, api.VerifyProgress, store.VerifyReport]{
		Name: "verification", Alone: d.alone("verification"), Drain: d.draining, Log: d.log,
		Run: shown(d.verifying, func() bool { return d.jobs.Verify.Stop() }, d.verify),
	}
}

func (d *daemon) verify(ctx context.Context, q api.VerifyRequest,
	progress func(api.VerifyProgress)) (store.VerifyReport, error) {
	began := time.Now()
	report, err := d.store.Integrity().Verify(ctx, store.VerifyOptions{
		Content: q.Content, BytesPerSecond: q.BytesPerSecond,
		Progress: func(done store.VerifyReport, of store.StoreSize) {
			done.Problems = []store.Problem{} // they come with the result
			progress(api.VerifyProgress{Began: began, Done: done, Of: of})
		},
	})
	kept := report
	listed := min(len(report.Problems), damageListed)
	kept.Problems, kept.MoreProblems = report.Problems[:listed:listed], report.MoreProblems+int64(len(report.Problems)-listed)
	d.verified.Set(context.WithoutCancel(ctx), api.VerifyResult{Report: kept, VerifyState: api.VerifyState{Began: began, Ended: time.Now(),
		Content: q.Content, Problems: int64(listed) + kept.MoreProblems, Error: stopReason(ctx, err)}})
	return report, err
}
