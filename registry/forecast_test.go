package registry

import (
	"io"
	"log/slog"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

func TestForecast(t *testing.T) {
	const giB, day = int64(1 << 30), 24 * time.Hour
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	// history is what is used after each hour of some days.
	history := func(days int, used func(hour int) int64) (all []freeSample) {
		for h := 0; h <= days*24; h++ {
			all = append(all, freeSample{now.Add(time.Duration(h-days*24) * time.Hour).Unix(), 10_000*giB - used(h)})
		}
		return all
	}
	after := func(hour int, n int64) func(int) int64 {
		return func(h int) int64 {
			if h >= hour {
				return n
			}
			return 0
		}
	}
	for name, tc := range map[string]struct {
		samples []freeSample
		perDay  int64
		full    int // days from now; 0: not
		unknown bool
	}{
		"nothing yet":                    {unknown: true},
		"two days":                       {samples: history(2, func(h int) int64 { return int64(h) * giB }), unknown: true},
		"each hour the same":             {samples: history(30, func(h int) int64 { return int64(h) * giB }), perDay: 24 * giB, full: 41},
		"each hour the same, three days": {samples: history(3, func(h int) int64 { return int64(h) * giB }), perDay: 24 * giB, full: 41},
		"one large mirror":               {samples: history(30, after(15*24, 500*giB)), perDay: 0},
		"one large mirror, of four days": {samples: history(4, after(50, 500*giB)), perDay: 0},
		"one yesterday":                  {samples: history(30, after(29*24, 900*giB)), perDay: 0},
		"each Sunday":                    {samples: history(30, func(h int) int64 { return int64(h/168) * 70 * giB }), perDay: 10 * giB, full: 100},
		"a first fill, then each day":    {samples: history(30, func(h int) int64 { return after(20, 800*giB)(h) + int64(h/24)*10*giB }), perDay: 10 * giB, full: 100},
		"deletes":                        {samples: history(10, func(h int) int64 { return -int64(h) * giB }), perDay: -24 * giB},
		"hardly":                         {samples: history(30, func(h int) int64 { return int64(h/24) * giB }), perDay: giB},
		"with a week without the daemon": {samples: append(history(30, func(h int) int64 { return int64(h) * giB })[:100], history(30, func(h int) int64 { return int64(h) * giB })[268:]...), perDay: 24 * giB, full: 41},
	} {
		t.Run(name, func(t *testing.T) {
			f := forecast(tc.samples, 1000*giB, now)
			if f == nil || tc.unknown {
				if f != nil || !tc.unknown {
					t.Errorf("the forecast is %+v", f)
				}
				return
			}
			if d := f.PerDay - tc.perDay; d < -giB/10 || d > giB/10 {
				t.Errorf("%d GiB a day, want %d", f.PerDay/giB, tc.perDay/giB)
			}
			if (f.Full != nil) != (tc.full > 0) || f.Full != nil && f.Full.Sub(now.Add(time.Duration(tc.full)*day)).Abs() > 25*time.Hour {
				t.Errorf("full at %v, want in %d days", f.Full, tc.full)
			}
		})
	}
}

func TestSpaceWatch(t *testing.T) {
	d := openDaemon(t, io.Discard)
	now := time.Now()
	w := openSpaceWatch(t.Context(), d.store, slog.New(slog.DiscardHandler))
	w.now = func() time.Time { return now }
	room := []api.Space{{Path: "/s", Total: 1000, Free: 900}}
	for range 40 * 24 * 2 { // of half an hour each
		now = now.Add(30 * time.Minute)
		w.sample(t.Context(), room)
	}
	again := openSpaceWatch(t.Context(), d.store, slog.New(slog.DiscardHandler)) // as after a restart
	again.now = w.now
	if n := len((*again.note.Get())["/s"].Samples); n != samplesKept {
		t.Errorf("%d samples are kept", n)
	}
	if f := again.forecast(room[0]); f == nil || f.Full != nil || f.PerDay != 0 || f.Days != 29 {
		t.Errorf("the forecast is %+v", f)
	}
	room[0].Total = 2000 // the file system was enlarged
	again.sample(t.Context(), room)
	if f := again.forecast(room[0]); f != nil || len((*again.note.Get())["/s"].Samples) != 1 {
		t.Errorf("the forecast of another file system is %+v", f)
	}
}
