package herd

import (
	"math"
	"testing"
)

// small is a herd whose outcome can be computed by hand.
func small() Options {
	return Options{Nodes: 10, Layers: []int64{600, 400}, NodeNIC: 1e9, Daemons: 1, NIC: 1000, CPU: 1e9, Uplink: 100,
		Step: 0.01, Limit: 1000, Seed: 1}
}

func TestRun(t *testing.T) {
	for name, c := range map[string]struct {
		change        func(*Options)
		last, fetched float64
	}{
		// 1000 bytes at 100 a second; the nodes have each byte soon after.
		"the uplink decides": {func(*Options) {}, 10, 1},
		// 10 × 1000 bytes at 1000 a second.
		"the network of the daemon decides": {func(o *Options) { o.Uplink = 1e9 }, 10, 1},
		"its processors decide":             {func(o *Options) { o.Uplink, o.CPU = 1e9, 500 }, 20, 1},
		"a node decides":                    {func(o *Options) { o.Uplink, o.NIC, o.NodeNIC = 1e9, 1e9, 50 }, 20, 1},
		"each daemon fetches":               {func(o *Options) { o.Daemons = 2 }, 20, 2},
		"one storage, one fetch":            {func(o *Options) { o.Daemons, o.Shared, o.NIC = 2, true, 1e9 }, 10, 1},
	} {
		t.Run(name, func(t *testing.T) {
			o := small()
			c.change(&o)
			got, err := Run(o)
			if err != nil {
				t.Fatal(err)
			}
			if got.Pulled != o.Nodes || math.Abs(got.Last-c.last) > 0.1*c.last || math.Abs(got.Fetched-c.fetched) > 0.01 ||
				math.Abs(got.Sent-1) > 0.01 || got.Failed != 0 {
				t.Errorf("%+v, want all at %v s and %v images fetched", got, c.last, c.fetched)
			}
		})
	}
}

// The nodes without a place come again after kubelet's back-off, and get the image.
func TestRun_connections(t *testing.T) {
	o := small()
	o.Connections, o.Uplink = 5, 1e9
	got, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	// Five nodes take 5 s, the other five come again at 10 s.
	if got.Pulled != 10 || got.Refused != 5 || got.Failed != 5 || got.Peak != 5 || math.Abs(got.Last-15) > 0.5 {
		t.Errorf("%+v", got)
	}
}

// A request that has too many others beside it is repeated as often as containers/image does, then the pull
// fails; the layers before the missing one are kept.
func TestRun_requests(t *testing.T) {
	o := small()
	o.Nodes, o.Requests, o.RetryAfter, o.NIC, o.Uplink = 1, 1, 1, 100, 1e9
	got, err := Run(o)
	if err != nil {
		t.Fatal(err)
	}
	// The first layer takes 6 s. The second is refused at 0, 1, 2, 3 and 4 s, with which the pull fails and
	// begins again at 14 s: the first layer until 20 s, while the second fails again at 18 s, and at 38 s.
	if got.Pulled != 0 || got.Failed < 5 || got.TooMany < 25 {
		t.Errorf("%+v: a client that begins its layers at once never gets both", got)
	}
	o.RetryAfter = 2
	if got, err = Run(o); err != nil || got.Pulled != 1 || got.Failed != 0 || math.Abs(got.Last-10) > 0.5 {
		t.Errorf("with a longer Retry-After: %+v, %v", got, err)
	}
}

func TestRun_invalid(t *testing.T) {
	if _, err := Run(Options{}); err == nil {
		t.Error("no error")
	}
}
