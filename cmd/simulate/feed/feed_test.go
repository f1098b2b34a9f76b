package feed

import (
	"math"
	"testing"
)

// quiet is a first with a run each day and nothing else.
func quiet() Options {
	return Options{Days: 10, Bytes: 1e6, Run: 1000, Horizon: 1e6, Followers: 2, RoundTrip: 0.1, Page: 100, RowCPU: 1e-5,
		PageCPU: 1e-3, Bandwidth: 1e7, Manifests: 1e5, CommitTime: 1}
}

func TestRun(t *testing.T) {
	got, err := Run(quiet())
	if err != nil {
		t.Fatal(err)
	}
	// 1000 changes of 1 MB at 10 MB/s, and 10 pages before.
	if got.Changes != 10_000 || got.Rows != 1000 || got.Commits != 20 || math.Abs(got.Median-103) > 2 || got.Listed {
		t.Errorf("%+v", got)
	}
}

// A follower that was away for a week fetches what changed, once, and its rows are kept.
func TestRun_cut(t *testing.T) {
	o := quiet()
	o.CutFrom, o.CutTo = 1*day, 8*day
	got, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if got.CatchUpRows != 7000 || got.Rows != 7000 || math.Abs(got.CatchUp-709) > 10 || got.Listed {
		t.Errorf("%+v", got)
	}
}

// With fewer rows kept than came meanwhile, it lists everything, and the others pay nothing.
func TestRun_horizon(t *testing.T) {
	o := quiet()
	o.CutFrom, o.CutTo, o.Horizon = 1*day, 8*day, 5000
	got, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Listed || got.Rows > 5000 || math.Abs(got.Max-103) > 2 {
		t.Errorf("%+v", got)
	}
}

// A tag that each build moves is one row, however often it moved.
func TestRun_hot(t *testing.T) {
	o := quiet()
	o.Run, o.Pushes, o.Hot, o.HotOf, o.Days = 0, 1, 1, 50, 3
	o.CutFrom, o.CutTo = 1*day, 2*day
	got, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Rows != 50 || got.CatchUpRows < 50 || got.CatchUpRows > 60 || got.Changes < 200_000 {
		t.Errorf("%+v", got)
	}
}

// Changes that come all the time do not keep a follower from its commit.
func TestRun_busy(t *testing.T) {
	o := quiet()
	o.Run, o.Pushes, o.Days, o.Bytes = 0, 50, 0.05, 1e5
	got, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	if got.Commits < 100 || got.P99 > 60 {
		t.Errorf("%+v", got)
	}
}

func TestRun_invalid(t *testing.T) {
	if _, err := Run(Options{}); err == nil {
		t.Error("no error")
	}
}
