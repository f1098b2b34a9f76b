package jobs

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"
)

var discard = slog.New(slog.DiscardHandler)

// runner runs until its context ends, or, with a request that is not "", until it has
// told that as its progress.
func runner(drain context.Context) *Runner[string, string, int] {
	return New(Kind[string, string, int]{Name: "test", Drain: drain, Log: discard,
		DryRun: func(q string) bool { return q == "dry" },
		Run: func(ctx context.Context, q string, progress func(string)) (int, error) {
			progress(q)
			switch q {
			case "":
				<-ctx.Done()
				return 0, ctx.Err()
			case "broken":
				return 0, errors.New("it is broken")
			}
			return len(q), nil
		}})
}

func TestRunner_Run(t *testing.T) {
	r := runner(t.Context())
	t.Run("tells progress and result", func(t *testing.T) {
		var told string
		if n, err := r.Run(t.Context(), "four", func(p string) { told = p }); n != 4 || err != nil || told != "four" {
			t.Errorf("told %q, result %d, %v", told, n, err)
		}
	})
	t.Run("counts", func(t *testing.T) {
		_, _ = r.Run(t.Context(), "broken", nil)
		_, _ = r.Run(t.Context(), "dry", nil)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Run(ctx, "", nil); !errors.Is(err, context.Canceled) {
			t.Errorf("error is %v", err)
		}
		if s := r.Stats(); s.Running || s.Runs != 3 || s.Failures != 1 || time.Since(s.LastSuccess) > time.Minute {
			t.Errorf("stats are %+v", s)
		}
	})
}

func TestRunner_oneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain, quit := context.WithCancel(t.Context())
		r := runner(drain)
		if err := r.Start(""); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if p := r.Progress(); p == nil || !r.Stats().Running {
			t.Errorf("progress %v, stats %+v", p, r.Stats())
		}
		var busy *BusyError
		if _, err := r.Run(t.Context(), "x", nil); !errors.As(err, &busy) || busy.Name != "test" {
			t.Errorf("a second gives %v", err)
		}
		if err := r.Start("x"); !errors.As(err, &busy) {
			t.Errorf("a second that is detached gives %v", err)
		}
		quit()
		r.Wait()
		if p := r.Progress(); p != nil || r.Stats().Running {
			t.Errorf("after draining: progress %v, stats %+v", p, r.Stats())
		}
	})
}

func TestRunner_waits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain, quit := context.WithCancel(t.Context())
		running, most := 0, 0
		r := New(Kind[time.Duration, string, int]{Name: "test", Drain: drain, Log: discard, Waits: true,
			Run: func(ctx context.Context, q time.Duration, _ func(string)) (int, error) {
				running++
				most = max(most, running)
				defer func() { running-- }()
				select {
				case <-time.After(q):
				case <-ctx.Done():
				}
				return int(q), ctx.Err()
			}})
		ended := make(chan error)
		run := func(ctx context.Context, q time.Duration) {
			go func() {
				n, err := r.Run(ctx, q, nil)
				if err == nil && n != int(q) {
					err = errors.New("the result is another's")
				}
				ended <- err
			}()
			synctest.Wait()
		}
		for range 3 {
			run(t.Context(), time.Minute)
		}
		for range 3 {
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}
		if most != 1 || r.Stats().Runs != 3 {
			t.Errorf("%d at once, stats %+v", most, r.Stats())
		}
		run(t.Context(), 2*time.Hour)
		short, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		run(short, time.Minute)
		if err := <-ended; !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("one that does not wait so long gets %v", err)
		}
		run(t.Context(), time.Minute)
		quit()
		for range 2 {
			if err := <-ended; !errors.Is(err, ErrStopping) {
				t.Errorf("after draining: %v", err)
			}
		}
	})
}

func TestRunner_drains(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		drain, quit := context.WithCancel(t.Context())
		r := runner(drain)
		ended := make(chan error)
		go func() {
			_, err := r.Run(t.Context(), "", nil)
			ended <- err
		}()
		synctest.Wait()
		quit()
		if err := <-ended; !errors.Is(err, ErrStopping) {
			t.Errorf("error is %v", err)
		}
		if _, err := r.Run(t.Context(), "x", nil); !errors.Is(err, ErrStopping) {
			t.Errorf("work is begun: %v", err)
		}
	})
}

func TestRunner_Schedule(t *testing.T) {
	const day = 24 * time.Hour
	for _, tc := range []struct {
		name     string
		interval time.Duration
		last     time.Duration // how long ago; 0: never
		request  string
		want     []time.Duration // after the start
	}{
		{"a daemon that never worked waits first", 3 * day, 0, "x", []time.Duration{startDelay, startDelay + 3*day}},
		{"a short interval is kept", time.Minute, 0, "x", []time.Duration{time.Minute, 2 * time.Minute}},
		{"the last success counts over a restart", 3 * day, 2 * day, "x", []time.Duration{day, 4 * day}},
		{"what is overdue is done soon", 3 * day, 30 * day, "x", []time.Duration{startDelay, startDelay + 3*day}},
		{"a clock that was ahead delays it by an interval", 3 * day, -1000 * day, "x", []time.Duration{3 * day, 6 * day}},
		{"a failure is repeated after a day", 3 * day, 0, "broken", []time.Duration{startDelay, startDelay + day, startDelay + 2*day}},
		{"never", 0, 0, "x", nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				var began []time.Duration
				kind := Kind[string, string, int]{Name: "test", Interval: tc.interval, Drain: t.Context(), Log: discard,
					Run: func(_ context.Context, q string, _ func(string)) (int, error) {
						began = append(began, time.Since(start))
						if q == "broken" {
							return 0, errors.New("it is broken")
						}
						return 0, nil
					}}
				if tc.last != 0 {
					kind.LastSuccess = start.Add(-tc.last)
				}
				until := time.Hour
				if len(tc.want) > 0 {
					until = tc.want[len(tc.want)-1] + time.Second
				}
				ctx, cancel := context.WithTimeout(t.Context(), until)
				defer cancel()
				if err := New(kind).Schedule(ctx, tc.request); err != nil {
					t.Fatal(err)
				}
				if len(began) != len(tc.want) {
					t.Fatalf("began %v, want %v", began, tc.want)
				}
				for i, want := range tc.want {
					if began[i] != want {
						t.Errorf("began %v, want %v", began, tc.want)
					}
				}
			})
		})
	}
}

func TestRunner_Schedule_afterRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, start := runner(t.Context()), time.Now()
		r.kind.Interval = time.Hour
		go func() { _ = r.Schedule(t.Context(), "four") }()
		requests := []struct {
			at    time.Duration
			q     string
			next  time.Duration
			total int64
		}{
			{10 * time.Minute, "by hand", 70 * time.Minute, 1},
			{50 * time.Minute, "dry", 70 * time.Minute, 1},
			{60 * time.Minute, "broken", 70 * time.Minute, 2},
			{65 * time.Minute, "by hand", 125 * time.Minute, 3},
			{130 * time.Minute, "by hand", 190 * time.Minute, 5}, // after one by schedule
		}
		for _, q := range requests {
			time.Sleep(q.at - time.Since(start))
			_, _ = r.Run(t.Context(), q.q, nil)
			synctest.Wait()
			if next, runs := r.Next().Sub(start), r.Stats().Runs; next != q.next || runs != q.total {
				t.Errorf("after %q at %s the next begins at %s, and %d were run; want %s and %d", q.q, q.at, next, runs, q.next, q.total)
			}
		}
	})
}

func TestRunner_Stop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runner(t.Context())
		if r.Stop() {
			t.Error("something was stopped before there was anything")
		}
		ended := make(chan error, 1)
		go func() {
			_, err := r.Run(t.Context(), "", nil)
			ended <- err
		}()
		synctest.Wait()
		if !r.Stop() {
			t.Error("nothing was under way")
		}
		if err := <-ended; !errors.Is(err, ErrCancelled) {
			t.Errorf("the work ends with %v", err)
		}
		if s := r.Stats(); s.Running || s.Failures != 0 {
			t.Errorf("work that was stopped counts as %+v", s)
		}
		if n, err := r.Run(t.Context(), "four", nil); n != 4 || err != nil {
			t.Errorf("the next one: %d, %v", n, err)
		}
		if err := r.Start(""); err != nil { // and before it has begun
			t.Fatal(err)
		}
		r.Stop()
		r.Wait()
	})
}

func TestRunner_Next(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, began := runner(t.Context()), time.Now()
		ctx, end := context.WithCancel(t.Context())
		r.kind.Interval = time.Hour
		go func() { _ = r.Schedule(ctx, "four") }()
		synctest.Wait()
		if next := r.Next().Sub(began); next != startDelay {
			t.Errorf("the first begins after %s", next)
		}
		time.Sleep(startDelay + time.Minute)
		if next := r.Next().Sub(began); next != startDelay+time.Hour {
			t.Errorf("the second begins after %s", next)
		}
		end()
		synctest.Wait()
		if !r.Next().IsZero() {
			t.Error("it begins without a schedule")
		}
	})
}
