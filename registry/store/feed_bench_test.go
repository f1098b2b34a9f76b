package store

import (
	"context"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkFeed_pushes measures pushes in three stores: without the triggers of the feed; with the triggers and no
// follower, as in most appliances; and with a follower that reads the feed meanwhile.
func BenchmarkFeed_pushes(b *testing.B) {
	for _, c := range []struct {
		name  string
		ready func(f *fixture) (end func())
	}{
		{"without triggers", func(f *fixture) func() {
			f.exec(undoFollowers + undoOtherFollowers)
			return func() {}
		}},
		{"no follower", func(*fixture) func() { return func() {} }},
		{"one follower", func(f *fixture) func() { return f.readOn("a") }},
	} {
		b.Run(c.name, func(b *testing.B) {
			f := newFixture(b)
			end := c.ready(f)
			before := processorTime(b)
			inParallel(b, func(i int64) error {
				_, err := smallImage(f.ctx, f.Store, fmt.Sprint("app", i%pushers), fmt.Sprint("v", i))
				return err
			})
			b.ReportMetric(float64((processorTime(b)-before).Microseconds())/float64(b.N), "cpu-µs/op")
			end()
		})
	}
}

// processorTime returns what this process has used, which other load of the machine changes less than the time that passes.
func processorTime(b *testing.B) time.Duration {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		b.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// undoOtherFollowers undoes the rest of migration 14.
const undoOtherFollowers = `DROP TRIGGER origin_came; DROP TRIGGER origin_changed; DROP TRIGGER origin_went;
	DROP TRIGGER cluster_came; DROP TRIGGER cluster_changed; DROP TRIGGER cluster_went;`

// readOn has a follower read the feed until end is called.
func (f *fixture) readOn(id string) (end func()) {
	at := f.register(id)
	ctx, cancel := context.WithCancel(f.ctx)
	ended := make(chan error)
	go func() {
		for ctx.Err() == nil {
			changed := f.Feed.Changed()
			p, err := f.Feed.Page(f.ctx, id, at, true, MaxChanges)
			if err != nil {
				ended <- err
				return
			}
			at = p.Next
			if p.CaughtUp && len(p.Changes) == 0 {
				select {
				case <-changed:
				case <-ctx.Done():
				case <-time.After(time.Second):
				}
			}
		}
		ended <- nil
	}()
	return func() {
		cancel()
		f.must(<-ended)
	}
}
