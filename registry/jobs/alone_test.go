package jobs

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// daemons have one place for work among them.
type daemons struct{ place chan *held }

type held struct {
	of   daemons
	lost context.Context
	lose context.CancelFunc
}

func (h *held) Within(ctx context.Context) (context.Context, context.CancelFunc) {
	return until(ctx, h.lost, errors.New("another has it"))
}
func (h *held) Release() { <-h.of.place }

func (d daemons) runner(t *testing.T) *Runner[string, string, int] {
	r := runner(t.Context())
	r.kind.Alone = func(context.Context) (Alone, error) {
		h := &held{of: d}
		h.lost, h.lose = context.WithCancel(context.Background())
		select {
		case d.place <- h:
			return h, nil
		default:
			return nil, &BusyError{Name: "test", Host: "other"}
		}
	}
	return r
}

func TestRunner_alone(t *testing.T) {
	d := daemons{make(chan *held, 1)}
	a, b := d.runner(t), d.runner(t)
	if err := a.Start(""); err != nil {
		t.Fatal(err)
	}
	var busy *BusyError
	if _, err := b.Run(t.Context(), "four", nil); !errors.As(err, &busy) || busy.Host != "other" {
		t.Errorf("while another daemon works: %v", err)
	}
	if err := b.Start("four"); !errors.As(err, &busy) {
		t.Errorf("while another daemon works: %v", err)
	}
	if s := b.Stats(); s.Running || s.Runs != 0 {
		t.Errorf("%+v", s)
	}
	a.Stop()
	a.Wait()
	if n, err := b.Run(t.Context(), "four", nil); n != 4 || err != nil {
		t.Errorf("after it has ended: %d, %v", n, err)
	}
	began := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() {
		_, err := a.Run(t.Context(), "", func(string) { began <- struct{}{} })
		ended <- err
	}()
	<-began
	h := <-d.place
	d.place <- h
	h.lose()
	if err := <-ended; err == nil || a.Stats().Failures != 0 {
		t.Errorf("when another daemon may begin: %v, %+v", err, a.Stats())
	}
	if n, err := b.Run(t.Context(), "four", nil); n != 4 || err != nil {
		t.Errorf("after that: %d, %v", n, err)
	}
}

// Work of a kind that waits begins when another daemon has ended its own. It tries once a second.
func TestRunner_waitsForAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := daemons{make(chan *held, 1)}
		a, b := d.runner(t), d.runner(t)
		var tries atomic.Int64
		alone := b.kind.Alone
		b.kind.Waits, b.kind.Alone = true, func(ctx context.Context) (Alone, error) {
			tries.Add(1)
			return alone(ctx)
		}
		if err := a.Start(""); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			n, err := b.Run(t.Context(), "four", nil)
			if n != 4 {
				err = errors.Join(err, errors.New("it has another result"))
			}
			ended <- err
		}()
		time.Sleep(10*awaitEvery + awaitEvery/2)
		synctest.Wait()
		if n := tries.Load(); n != 11 {
			t.Errorf("it has tried %d times in ten seconds and a half", n)
		}
		a.Stop()
		a.Wait()
		if err := <-ended; err != nil || tries.Load() != 12 {
			t.Errorf("it ends with %v after %d tries", err, tries.Load())
		}
	})
}

// notes are those of several daemons.
type notes map[string]string

func (n notes) Note(_ context.Context, name string) (string, error) { return n[name], nil }
func (n notes) SetNote(_ context.Context, name, text string) error  { n[name] = text; return nil }
func (n notes) Several() bool                                       { return true }

func TestNote_shared(t *testing.T) {
	kept := notes{}
	a, b := OpenNote[int](t.Context(), kept, "last", discard), OpenNote[int](t.Context(), kept, "last", discard)
	for n := range 2 {
		a.Set(t.Context(), n)
		if got := b.Get(); got == nil || *got != n {
			t.Errorf("the other daemon has %v, want %d", got, n)
		}
	}
	a.Remove(t.Context())
	if got := b.Get(); got != nil {
		t.Errorf("the other daemon has %d, which was removed", *got)
	}
}

// When scheduled work begins next is the same at all daemons, and work on request puts it off at any of them. The daemon that
// does the scheduled work goes by that.
func TestRunner_Next_shared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		kept, start := notes{}, time.Now()
		d := daemons{make(chan *held, 1)}
		a, b := d.runner(t), d.runner(t)
		for _, r := range []*Runner[string, string, int]{a, b} {
			r.kind.Interval, r.kind.Next = time.Hour, OpenNote[time.Time](t.Context(), kept, "next", discard)
		}
		shows := func(when string, want time.Duration) {
			t.Helper()
			synctest.Wait()
			for name, r := range map[string]*Runner[string, string, int]{"that does it": a, "that does not": b} {
				if next := r.Next(); next.IsZero() && want != 0 || want != 0 && next.Sub(start) != want || want == 0 && !next.IsZero() {
					t.Errorf("%s the daemon %s shows %s, want %s", when, name, next.Sub(start), want)
				}
			}
		}
		request := func(r *Runner[string, string, int], q string) {
			t.Helper()
			if _, err := r.Run(t.Context(), q, nil); (err != nil) != (q == "broken") {
				t.Fatal(err)
			}
		}
		request(b, "four")
		shows("before there is a schedule", 0)
		scheduled, end := context.WithCancel(t.Context())
		go func() { _ = a.Schedule(scheduled, "four") }()
		shows("at first", startDelay)
		time.Sleep(startDelay)
		shows("after the first", startDelay+time.Hour)
		time.Sleep(time.Hour - time.Minute)
		request(b, "dry")
		request(b, "broken")
		shows("after what does not count", startDelay+time.Hour)
		request(b, "four")
		shows("after one on request", startDelay+2*time.Hour-time.Minute)
		time.Sleep(2 * time.Minute)
		if n := a.Stats().Runs; n != 1 {
			t.Errorf("it has worked %d times, and was put off", n)
		}
		time.Sleep(time.Hour - 2*time.Minute)
		shows("after what was put off", startDelay+3*time.Hour-time.Minute)
		if n := a.Stats().Runs; n != 2 {
			t.Errorf("it has worked %d times", n)
		}
		b.setNext(t.Context(), start.AddDate(1, 0, 0)) // its clock was ahead
		time.Sleep(time.Hour)
		shows("after a time that was ahead", startDelay+4*time.Hour-time.Minute)
		time.Sleep(time.Hour)
		synctest.Wait()
		if n := a.Stats().Runs; n != 3 {
			t.Errorf("after a time that was ahead it has worked %d times", n)
		}
		end()
		synctest.Wait()
		b.kind.Interval = 0
		if err := b.Schedule(t.Context(), "four"); err != nil {
			t.Error(err)
		}
		shows("without a schedule", 0)
	})
}

// What another daemon has done is not due here.
func TestRunner_latest(t *testing.T) {
	r := runner(t.Context())
	if due := r.due(time.Now(), time.Hour); due != 0 {
		t.Errorf("what never succeeded is due in %s", due)
	}
	now := time.Now()
	r.kind.Latest = func() time.Time { return now }
	if due := r.due(now, time.Hour); due != time.Hour {
		t.Errorf("what has just succeeded elsewhere is due in %s", due)
	}
}
