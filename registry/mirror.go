package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/resources"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

// listedOfRun bounds the failures of a run in a status, and its warnings; its report has all of them.
const listedOfRun = 20

// mirrorRunner runs one image set.
type mirrorRunner = jobs.Runner[api.MirrorRequest, api.MirrorProgress, api.MirrorResult]

// scheduled is an image set that the configuration names. Its runs go straight into the store.
type scheduled struct {
	set    config.Sync
	open   func(context.Context, config.Sync, *slog.Logger) (mirror.Options, func(), error)
	served func(context.Context) ([]resources.File, error)
	link   *link
	store  *store.Store
	host   string
	turn   chan struct{} // held by the run under way: two would share the line to the sources
	log    *slog.Logger
	last   *jobs.Note[api.MirrorResult] // without runs that were stopped
	runner *mirrorRunner
	runs   *board[api.MirrorProgress, struct{}]
	at     string // as daemon.several

	writable func() bool // the appliance takes changes

	planner  *planRunner
	planning *board[api.MirrorProgress, api.MirrorPlan]
	keepPlan func(*api.MirrorPlan) // of one that was not stopped
}

// openMirrors makes the jobs of the image sets that the configuration names.
func (d *daemon) openMirrors(ctx context.Context) {
	turn := make(chan struct{}, 1)
	d.openDraft(turn)
	d.openReach()
	for _, set := range d.cfg.Sync {
		s := &scheduled{at: d.several(), writable: d.family.Writable,
			set: set, open: d.given.Mirror, served: d.resources().Files, link: d.link, store: d.store, host: d.cfg.Address(), turn: turn,
			log:  d.log.With("imageSet", set.ImageSet),
			last: jobs.OpenNote[api.MirrorResult](ctx, d.store, "mirror.last "+set.ImageSet, d.log),
		}
		s.runs = newBoard[api.MirrorProgress, struct{}](d, "mirror run of "+set.ImageSet, atHost)
		kind := jobs.Kind[api.MirrorRequest, api.MirrorProgress, api.MirrorResult]{
			Interval: set.Interval, Next: d.next(ctx, "mirror.next "+set.ImageSet),
			Name: "mirror run", Alone: d.alone("mirror run of " + set.ImageSet), Drain: d.draining, Log: s.log,
			Run: shown(s.runs, func() bool { return s.runner.Stop() }, changing(d.family, nil, s.run)),
		}
		if last := s.last.Get(); last != nil && last.Error == "" {
			kind.LastSuccess = last.Ended
		}
		kind.Latest = latest(d.store, s.last, func(r *api.MirrorResult) (at time.Time) {
			if r.Error == "" {
				at = r.Ended
			}
			return at
		})
		s.runner = jobs.New(kind)
		s.planning = newBoard[api.MirrorProgress, api.MirrorPlan](d, "plan of "+set.ImageSet, atHost)
		s.keepPlan = s.planning.keep
		s.planner = jobs.New(jobs.Kind[api.MirrorRequest, api.MirrorProgress, api.MirrorPlan]{
			Name: "plan of a mirror run", Alone: d.alone("plan of a mirror run of " + set.ImageSet), Drain: d.draining, Log: s.log,
			Run: shown(s.planning, func() bool { return s.planner.Stop() }, s.plan),
		})
		d.mirrors = append(d.mirrors, s)
		d.onClose(func() error {
			s.runner.Wait()
			s.planner.Wait()
			return nil
		})
	}
}

// scheduleMirrors runs the image sets by their intervals until ctx ends.
func (d *daemon) scheduleMirrors(ctx context.Context) error {
	var g errgroup.Group
	for _, s := range d.mirrors {
		g.Go(func() error {
			return s.runner.Schedule(ctx, api.MirrorRequest{ImageSet: s.set.ImageSet})
		})
	}
	return g.Wait()
}

// state returns the state of the image set.
func (s *scheduled) state(ctx context.Context) api.MirrorState {
	seen, last := s.runs.see(ctx), s.last.Get()
	if cut := seen.interrupted; cut != nil && (last == nil || last.Began.Before(cut.Began)) {
		last = &api.MirrorResult{Began: cut.Began, Ended: seen.told, Mirrored: cut.Copied + cut.Existed, Planned: cut.Images, Fetched: cut.Fetched,
			Failures: cut.Failures, Error: "it was interrupted: the daemon on host " + seen.host + ", which ran it, has ended", Host: seen.host}
	}
	state := api.MirrorState{ImageSet: s.set.ImageSet, Every: api.Duration(s.set.Interval), Running: seen.doing, Last: last}
	if s.writable() { // else none is to run, whatever the note of several daemons had before
		state.Next = s.runner.Next()
	}
	return state
}

// check returns an error if the image set cannot be read.
func (s *scheduled) check() error {
	set, err := imageset.LoadEither(s.set.ImageSet)
	if err == nil {
		err = mirror.CheckStorage(set)
	}
	if err != nil {
		return s.ofHost(fmt.Errorf("sync: %s: %w", s.set.ImageSet, err))
	}
	return nil
}

// ofHost adds to the error of a file that is not here which host may have it.
func (s *scheduled) ofHost(err error) error {
	if s.at == "" || !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = fmt.Errorf("host %s lacks a file: %w", s.at, err)
	if last := s.last.Get(); last != nil && last.Host != "" && last.Host != s.at {
		return hint.New(err, "the last run was on host "+last.Host+", which has it: ask the daemon there, or copy the file")
	}
	return hint.New(err, "each host has files of its own: ask the daemon of the host that has it, or copy the file")
}

// run mirrors the image set once, after a run of another.
func (s *scheduled) run(ctx context.Context, _ api.MirrorRequest,
	progress func(api.MirrorProgress)) (api.MirrorResult, error) {
	now, err := s.takeTurn(ctx, progress)
	if err != nil {
		return api.MirrorResult{}, err
	}
	defer func() { <-s.turn }()
	f := &following{now: now, tell: progress}
	report, err := s.mirror(store.WithUser(ctx, "sync"), f.event)
	result := api.MirrorResult{Began: now.Began, Ended: time.Now(), Fetched: f.fetched(), Host: s.at}
	if report != nil {
		result.Mirrored, result.Planned = len(report.Mirrored), report.Planned
		result.Report, result.Resources = report.File, report.Resources
		result.Warnings = report.Warnings[:min(len(report.Warnings), listedOfRun)]
		for _, warning := range result.Warnings {
			s.log.Warn("mirrored with a warning", "warning", warning)
		}
		for _, failure := range report.Failures[:min(len(report.Failures), listedOfRun)] {
			result.Failures = append(result.Failures,
				api.MirrorFailure{Image: failure.Image.Origin, Error: failure.Error})
		}
	}
	if err != nil && ctx.Err() != nil {
		return result, err
	}
	if err != nil {
		result.Error = err.Error()
	}
	s.last.Set(context.WithoutCancel(ctx), result)
	s.log.Info("mirrored", "images", result.Mirrored, "of", result.Planned, "bytes", result.Fetched,
		"took", result.Ended.Sub(result.Began).Round(time.Millisecond), "complete", err == nil)
	result.Error = ""
	return result, err
}

// takeTurn waits for the run of another image set, and tells so.
func (s *scheduled) takeTurn(ctx context.Context, progress func(api.MirrorProgress)) (api.MirrorProgress, error) {
	now := api.MirrorProgress{Began: time.Now()}
	select {
	case s.turn <- struct{}{}:
	default:
		progress(api.MirrorProgress{Began: now.Began, Waiting: true})
		select {
		case s.turn <- struct{}{}:
		case <-ctx.Done():
			return now, ctx.Err()
		}
	}
	progress(now)
	return now, nil
}

// mirror runs the image set.
func (s *scheduled) mirror(ctx context.Context, events func(mirror.Event)) (report *mirror.Report, err error) {
	err = s.opened(ctx, events, func(ctx context.Context, o mirror.Options) error {
		report, err = mirror.Run(ctx, o)
		return err
	})
	return report, err
}

// opened calls do with what a run of the image set needs. Its file is read anew.
func (s *scheduled) opened(ctx context.Context, events func(mirror.Event), do func(context.Context, mirror.Options) error) error {
	if s.open == nil {
		return errors.New("this program does not mirror")
	}
	ctx, done, err := s.link.within(ctx)
	if err != nil {
		return err
	}
	defer done()
	o, end, err := s.open(ctx, s.set, s.log)
	if err != nil {
		return fmt.Errorf("image set %s: %w", s.set.ImageSet, err)
	}
	defer end()
	o.Registry, o.Prefix, o.Workspace, o.Events = s.host, s.set.Prefix, s.set.Workspace, events
	o.Begin = func(ctx context.Context, name string) (mirror.Destination, error) {
		return s.store.Runs.Begin(ctx, name)
	}
	o.Held, o.Served = s.held, s.served
	o.Owner = "the sync job of " + s.set.ImageSet + " in config.yaml"
	return do(ctx, o)
}

// held reads a manifest of the store.
func (s *scheduled) held(ctx context.Context, repo, ref string) (ocispec.Descriptor, []byte, error) {
	get := func() (store.Manifest, error) { return s.store.Manifests.ByTag(ctx, repo, ref) }
	if d := digest.Digest(ref); d.Validate() == nil {
		get = func() (store.Manifest, error) { return s.store.Manifests.Get(ctx, repo, d) }
	}
	m, err := get()
	if errors.Is(err, store.ErrNotFound) {
		err = fmt.Errorf("%w: %w", fs.ErrNotExist, err)
	}
	return m.Descriptor(), m.Body, err
}

// following turns the events of a run into progress.
type following struct {
	tell func(api.MirrorProgress)

	mu  sync.Mutex // guards what follows, and is held while telling, so that progress stays in order
	now api.MirrorProgress
}

// shownCopying bounds the images under way in a progress.
const shownCopying = 10

func (f *following) event(e mirror.Event) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch e.Kind {
	case mirror.Resolved:
		f.now.Resolved++
	case mirror.Planned:
		f.now.Planned, f.now.Bytes = true, e.Plan.Missing
		f.now.Images, f.now.Failed = e.Plan.Planned(), len(e.Plan.Failures)
	case mirror.Bytes:
		f.now.Fetched += e.Bytes
		if i := f.copying(e.Image); i >= 0 {
			f.now.Copying[i].Fetched += e.Bytes
		}
	case mirror.Done:
		f.now.Copied++
		f.ended(e.Image)
	case mirror.Existed:
		f.now.Existed++
		f.ended(e.Image)
	case mirror.Failed:
		f.now.Failed++
		f.ended(e.Image)
		if len(f.now.Failures) < listedOfRun {
			f.now.Failures = append(f.now.Failures, api.MirrorFailure{Image: e.Image.Origin, Error: e.Err.Error()})
		}
	case mirror.Started:
		if len(f.now.Copying) < shownCopying {
			f.now.Copying = append(f.now.Copying, api.MirrorCopying{Image: e.Image.Origin})
		}
	}
	told := f.now
	told.Copying = slices.Clone(told.Copying)
	f.tell(told)
}

// copying returns the place of an image among those under way, or -1.
func (f *following) copying(i *plan.Image) int {
	return slices.IndexFunc(f.now.Copying, func(c api.MirrorCopying) bool { return c.Image == i.Origin })
}

func (f *following) ended(i *plan.Image) {
	if at := f.copying(i); at >= 0 {
		f.now.Copying = slices.Delete(f.now.Copying, at, at+1)
	}
}

func (f *following) fetched() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.now.Fetched
}
