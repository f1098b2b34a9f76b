package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/mirror/location"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

// scrubber does scrubs. The next one resumes one that was stopped, after a restart too, and both
// count as one.
type scrubber struct {
	store   *store.Store
	refetch func(ctx context.Context, d digest.Digest, size int64, sources []store.Source) (io.ReadCloser, error)
	log     *slog.Logger

	latest   *jobs.Note[api.ScrubState] // at the last checkpoint
	complete *jobs.Note[api.ScrubState] // the last that completed

	board *board[api.ScrubState, struct{}]

	read, damaged, repaired atomic.Int64 // since the start
}

func (s *scrubber) kind(drain context.Context) jobs.Kind[api.ScrubRequest, api.ScrubState, store.ScrubReport] {
	kind := jobs.Kind[api.ScrubRequest, api.ScrubState,
		store.ScrubReport]{Name: "scrub", Run: s.run, Drain: drain, Log: s.log}
	if last := s.complete.Get(); last != nil {
		kind.LastSuccess = last.Ended
	}
	return kind
}

// state returns the state of the scrub under way, or of one that was stopped half way, or nil.
func (s *scrubber) state(ctx context.Context) *api.ScrubState {
	seen := s.board.see(ctx)
	if seen.doing != nil {
		return seen.doing
	}
	if cut, complete := seen.interrupted, s.complete.Get(); cut != nil && (complete == nil || cut.Began.After(complete.Began)) {
		cut.Running = false
		return cut
	}
	return s.unfinished()
}

// unfinished returns the state of a scrub that was stopped half way, or nil.
func (s *scrubber) unfinished() *api.ScrubState {
	latest, complete := s.latest.Get(), s.complete.Get()
	if latest == nil || complete != nil && !latest.Began.After(complete.Began) {
		return nil
	}
	return latest
}

// run reads every blob.
func (s *scrubber) run(ctx context.Context, q api.ScrubRequest,
	progress func(api.ScrubState)) (store.ScrubReport, error) {
	before, err := s.begin(ctx)
	if err != nil {
		return store.ScrubReport{}, err
	}
	progress(before)
	began, read := time.Now(), s.read.Load()
	state := func(r store.ScrubReport) api.ScrubState {
		now := before
		now.Blobs, now.Bytes = before.Blobs+r.Blobs, before.Bytes+r.Bytes
		// Blobs that were not repaired are in quarantine, and are reported again.
		now.Damaged, now.Repaired = before.Repaired+r.Damaged, before.Repaired+r.Repaired
		return now
	}
	report, err := s.store.Integrity().Scrub(ctx, store.ScrubOptions{
		BytesPerSecond: q.BytesPerSecond, Refetch: s.refetch,
		Progress: func(r store.ScrubReport) {
			s.read.Store(read + r.Bytes)
			progress(state(r))
		},
		Checkpoint: func(ctx context.Context, r store.ScrubReport) {
			now := state(r)
			now.Running = false
			s.latest.Set(ctx, now)
		},
	})
	s.damaged.Add(report.Damaged)
	s.repaired.Add(report.Repaired)
	if err != nil {
		return report, fmt.Errorf("scrub: %w", err)
	}
	done := state(report)
	done.Running, done.Ended = false, time.Now()
	s.complete.Set(context.WithoutCancel(ctx), done)
	s.log.Info("scrubbed", "blobs", report.Blobs, "bytes", report.Bytes, "damaged", report.Damaged,
		"repaired", report.Repaired,
		"took", time.Since(began).Round(time.Millisecond))
	return report, nil
}

// begin returns the state from which a scrub goes on.
func (s *scrubber) begin(ctx context.Context) (api.ScrubState, error) {
	cursor, err := s.store.Integrity().ScrubCursor(ctx)
	if err != nil {
		return api.ScrubState{}, err
	}
	stats, err := s.store.Stats(ctx)
	if err != nil {
		return api.ScrubState{}, err
	}
	state := api.ScrubState{Began: time.Now()}
	if before := s.latest.Get(); before != nil && cursor != "" {
		state = *before
	}
	state.Running = true
	state.Of = api.ScrubSize{Blobs: stats.Blobs, Bytes: stats.BlobBytes}
	return state, nil
}

// refetch fetches a blob again from its sources: from configured upstreams with their logins, and
// from other registries without one, where registries.conf says.
func (d *daemon) refetch(ctx context.Context, blob digest.Digest, _ int64,
	sources []store.Source) (io.ReadCloser, error) {
	if len(sources) == 0 {
		return nil, errors.New("it is not known where it came from")
	}
	var errs []error
	for _, source := range sources {
		body, err := d.fetchFrom(ctx, source, blob)
		if err == nil {
			return body, nil
		}
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (d *daemon) fetchFrom(ctx context.Context, source store.Source, blob digest.Digest) (io.ReadCloser, error) {
	o, upstreams, err := d.readSource(source)
	if first, ok := d.family.readFirst(source); ok {
		o, upstreams, err = first, true, nil
	}
	if err == nil {
		err = d.link.Gate()
	}
	if err != nil {
		return nil, err
	}
	if !upstreams {
		return d.fetchElsewhere(ctx, source, blob)
	}
	client, err := upstream.New(o)
	if err != nil {
		return nil, err
	}
	body, _, err := client.BlobFrom(ctx, source.Repository, blob, 0) // the store verifies what it puts back
	if err != nil {
		client.Close()
		return nil, err
	}
	return closing{body, client.Close}, nil
}

// fetchElsewhere fetches a blob where a sync would: registries.conf and the directories of certificates
// say where and how.
func (d *daemon) fetchElsewhere(ctx context.Context, source store.Source, blob digest.Digest) (io.ReadCloser, error) {
	kinds := map[bool]*upstream.Registries{}
	end := func() {
		for _, r := range kinds {
			r.Close()
		}
	}
	for _, insecure := range []bool{false, true} {
		kinds[insecure] = upstream.NewRegistries(func(registry string) (o upstream.Options, err error) {
			o = d.readOther(registry)
			if o.Trust, err = upstream.TrustFiles("", registry); err == nil && insecure {
				o.SkipVerify = true
				o.PlainHTTP, err = upstream.AnswersPlain(ctx, registry)
			}
			return o, err
		})
	}
	body, err := func() (io.ReadCloser, error) {
		places, err := location.Read("", func(p location.Place) (location.Source, error) {
			return kinds[p.Insecure].Repository(p.Registry, p.Repository)
		}, d.log)
		if err != nil {
			return nil, err
		}
		at, err := places.Open(source.Registry, source.Repository)
		if err != nil {
			return nil, err
		}
		body, _, err := at.BlobFrom(ctx, blob, 0)
		return body, err
	}()
	if err != nil {
		end()
		return nil, err
	}
	return closing{body, end}, nil
}

// closing closes the clients that a body was read with.
type closing struct {
	io.ReadCloser
	end func()
}

func (c closing) Close() error {
	defer c.end()
	return c.ReadCloser.Close()
}
