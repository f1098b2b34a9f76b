package registry

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	sampleEvery = time.Hour
	samplesKept = 30 * 24
	// forecastAfter is how long the space must have been watched for a forecast.
	forecastAfter = 3 * 24 * time.Hour
	// paceSpan is the longest time over which the pace is taken: what is mirrored each week counts in each of them.
	paceSpan = 7 * 24 * time.Hour
	// foreseen is how far a forecast goes.
	foreseen = 2 * 365 * 24 * time.Hour
)

// watched is what was free on a file system, oldest first. What was free of another total is forgotten: the file system
// has grown, or is another.
type watched struct {
	Total   int64        `json:"total"`
	Samples []freeSample `json:"samples"`
}

type freeSample struct {
	At   int64 `json:"at"` // seconds since 1970
	Free int64 `json:"free"`
}

// spaceWatch keeps how much was free, by path, an hour apart for thirty days.
type spaceWatch struct {
	note *jobs.Note[map[string]watched]
	now  func() time.Time
}

func openSpaceWatch(ctx context.Context, s *store.Store, log *slog.Logger) *spaceWatch {
	return &spaceWatch{note: jobs.OpenNote[map[string]watched](ctx, s, "space.free", log), now: time.Now}
}

// watchSpace takes a sample each hour, until ctx ends.
func (d *daemon) watchSpace(ctx context.Context) error {
	return every(ctx, 0, sampleEvery, func() {
		if room, err := d.store.Space(); err == nil { // the status tells of an error
			d.watch.sample(ctx, d.spaces(room))
		}
	})
}

// sample adds what is free now, unless the last sample is not an hour old.
func (w *spaceWatch) sample(ctx context.Context, room []api.Space) {
	now, all := w.now().Unix(), map[string]watched{}
	var before map[string]watched
	if kept := w.note.Get(); kept != nil {
		before = *kept
	}
	for _, r := range room {
		old := before[r.Path]
		if old.Total != r.Total {
			old = watched{Total: r.Total}
		}
		samples := slices.DeleteFunc(slices.Clone(old.Samples), func(s freeSample) bool { return s.At > now }) // by a clock that was ahead
		if n := len(samples); n == 0 || now-samples[n-1].At >= int64(sampleEvery.Seconds())*9/10 {
			samples = append(samples, freeSample{now, r.Free})
		}
		all[r.Path] = watched{r.Total, samples[max(0, len(samples)-samplesKept):]}
	}
	w.note.Set(ctx, all)
}

// forecast returns when a file system is full for pushes, or nil while that cannot be told.
func (w *spaceWatch) forecast(r api.Space) *api.Forecast {
	kept := w.note.Get()
	if kept == nil || (*kept)[r.Path].Total != r.Total {
		return nil
	}
	return forecast((*kept)[r.Path].Samples, r.Free-r.Kept, w.now())
}

// forecast is of a file system that has left for pushes.
//
// The pace is the median of the paces over each week, or over each quarter of the time if that is less than
// four weeks: one large mirror is in a quarter of these at most, and does not count, and what is mirrored each week is
// in all of them. A line through all samples was refused, since one step in their middle tilts it.
func forecast(samples []freeSample, left int64, now time.Time) *api.Forecast {
	if len(samples) == 0 {
		return nil
	}
	first, last := time.Unix(samples[0].At, 0), time.Unix(samples[len(samples)-1].At, 0)
	watched := last.Sub(first)
	if watched < forecastAfter {
		return nil
	}
	span := int64(min(paceSpan, watched/4).Seconds())
	var paces []float64 // bytes a second
	from := 0
	for _, s := range samples {
		for samples[from+1].At <= s.At-span {
			from++
		}
		if before := samples[from]; before.At <= s.At-span {
			paces = append(paces, float64(before.Free-s.Free)/float64(s.At-before.At))
		}
	}
	slices.Sort(paces)
	pace := paces[len(paces)/2]
	const day = 24 * time.Hour
	f := &api.Forecast{Days: int(watched / day), PerDay: int64(pace * day.Seconds())}
	if seconds := float64(max(0, left)) / pace; pace > 0 && seconds < foreseen.Seconds() {
		full := now.Add(time.Duration(seconds) * time.Second).UTC().Truncate(day)
		f.Full = &full
	}
	return f
}

// spaces are what the status has of the space.
func (d *daemon) spaces(room []diskspace.Space) []api.Space {
	all := []api.Space{}
	for _, r := range room {
		one := api.Space{Path: r.Path, Total: r.Total, Free: r.Free, Kept: r.Kept, Inodes: r.Inodes, FreeInodes: r.FreeInodes, KeptInodes: r.KeptInodes}
		one.Forecast = d.watch.forecast(one)
		all = append(all, one)
	}
	return all
}
