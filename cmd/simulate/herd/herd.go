// Package herd simulates many nodes that pull one image at the same time from daemons that do not have it
// yet: a cluster that is installed, or restarted after an update.
//
// Run is deterministic for a seed. Bytes flow in steps: what leaves a daemon is shared equally by the
// streams that can take it, and a stream gets no byte that its daemon has not fetched. Clients behave as
// containers/image and kubelet do: six layers at once over one HTTP/2 connection, five tries for an answer
// of 429 with the Retry-After of the answer, and, when a pull has failed, 10 s of back-off that doubles up
// to 300 s. A pull that is repeated keeps the layers before the first that it lacks.
//
// Refused: packets, disks and the latency of requests. With thousands of nodes the bytes take minutes, and
// round trips milliseconds; what decides is bandwidth, processors, and the limits of connections.
package herd

import (
	"fmt"
	"math/rand/v2"
	"slices"
)

// Options describe the nodes, the daemons and the image.
type Options struct {
	Nodes   int
	Layers  []int64 // bytes of each
	Spread  float64 // seconds in which the nodes begin
	NodeNIC float64 // bytes a second that a node takes

	Daemons int
	NIC     float64 // bytes a second that a daemon sends at most
	CPU     float64 // bytes a second that a daemon's processors encrypt and send
	Uplink  float64 // bytes a second from the upstream, shared by all daemons
	Shared  bool    // the daemons have one storage: a blob comes once, and the others have it when it is whole

	Connections int     // that one user may have at a daemon; 0: any number
	Requests    int     // under way of one user at a daemon; 0: any number
	RetryAfter  float64 // seconds in an answer of 429

	Step  float64 // seconds
	Limit float64 // seconds after which a simulation ends
	Seed  uint64
}

// Result is the outcome. Times are seconds since the first node began.
type Result struct {
	First, Median, P99, Last float64
	Pulled                   int     // nodes that have the image
	Fetched                  float64 // bytes from the upstream, in images
	Sent                     float64 // bytes to nodes, in images for each node
	Refused                  int     // connections without a place
	TooMany                  int     // answers of 429
	Failed                   int     // pulls that were begun again
	Peak                     int     // connections at one daemon
}

const (
	streams      = 6   // containers/image: maxParallelDownloads
	tries        = 5   // containers/image: backoffNumIterations
	firstBackoff = 10  // seconds; kubelet
	lastBackoff  = 300 // seconds; kubelet
)

type node struct {
	daemon  *daemon // nil while it waits
	next    float64 // when it begins a pull
	backoff float64
	layers  []layer
	done    float64 // when it had the image; 0: not yet
}

type layer struct {
	got    float64
	active bool
	next   float64 // when it is asked for
	tried  int     // answers of 429 in a row
}

type daemon struct {
	connections, requests int
	blobs                 []*blob
}

// blob is what a daemon, or the storage of all, has of a layer.
type blob struct {
	wanted bool
	has    float64
}

type simulation struct {
	Options
	Result
	nodes   []*node
	daemons []*daemon
	random  *rand.Rand
	now     float64
}

// Run simulates until all nodes have the image, or until the limit.
func Run(o Options) (Result, error) {
	if o.Nodes <= 0 || o.Daemons <= 0 || len(o.Layers) == 0 || o.Step <= 0 || min(o.NodeNIC, o.NIC, o.CPU, o.Uplink) <= 0 {
		return Result{}, fmt.Errorf("simulate a herd: nodes, daemons, layers, rates and the step must be above zero")
	}
	s := newSimulation(o)
	for s.Pulled < o.Nodes && s.now < o.Limit {
		s.fetch()
		s.begin()
		s.send()
		s.now += o.Step
	}
	s.sum()
	return s.Result, nil
}

func newSimulation(o Options) *simulation {
	s := &simulation{Options: o, random: rand.New(rand.NewPCG(o.Seed, 1))}
	shared := newBlobs(len(o.Layers))
	for range o.Daemons {
		d := &daemon{blobs: shared}
		if !o.Shared {
			d.blobs = newBlobs(len(o.Layers))
		}
		s.daemons = append(s.daemons, d)
	}
	for range o.Nodes {
		s.nodes = append(s.nodes, &node{next: o.Spread * s.random.Float64(), layers: make([]layer, len(o.Layers))})
	}
	return s
}

func newBlobs(n int) (all []*blob) {
	for range n {
		all = append(all, &blob{})
	}
	return all
}

// fetch shares the uplink by the blobs that are on their way.
func (s *simulation) fetch() {
	type coming struct {
		*blob
		size float64
	}
	var all []coming
	seen := map[*blob]bool{}
	for _, d := range s.daemons {
		for i, b := range d.blobs {
			if size := float64(s.Layers[i]); b.wanted && b.has < size && !seen[b] {
				seen[b] = true
				all = append(all, coming{b, size})
			}
		}
	}
	for _, c := range all {
		more := min(s.Uplink*s.Step/float64(len(all)), c.size-c.has)
		c.has += more
		s.Fetched += more
	}
}

// begin opens connections and asks for layers.
func (s *simulation) begin() {
	for _, n := range s.nodes {
		if n.done > 0 || n.next > s.now {
			continue
		}
		if n.daemon == nil && !s.connect(n) {
			continue
		}
		s.ask(n)
	}
}

func (s *simulation) connect(n *node) bool {
	d := s.daemons[s.random.IntN(len(s.daemons))]
	if s.Connections > 0 && d.connections >= s.Connections {
		s.Refused++
		s.fail(n)
		return false
	}
	n.daemon = d
	d.connections++
	s.Peak = max(s.Peak, d.connections)
	return true
}

// fail ends a pull, which is begun again after the back-off.
func (s *simulation) fail(n *node) {
	s.Failed++
	n.backoff = min(max(2*n.backoff, firstBackoff), lastBackoff)
	n.next = s.now + n.backoff
	whole := true
	for i := range n.layers {
		l := &n.layers[i]
		if l.active {
			n.daemon.requests--
		}
		whole = whole && l.got >= float64(s.Layers[i])
		got := l.got
		*l = layer{}
		if whole {
			l.got = got
		}
	}
	s.disconnect(n)
}

func (s *simulation) disconnect(n *node) {
	if n.daemon != nil {
		n.daemon.connections--
		n.daemon = nil
	}
}

// ask requests layers, as many at once as a client does.
func (s *simulation) ask(n *node) {
	active := 0
	for i := range n.layers {
		if n.layers[i].active {
			active++
		}
	}
	for i := range n.layers {
		l := &n.layers[i]
		if l.active || l.got >= float64(s.Layers[i]) {
			continue
		}
		if active++; active > streams {
			return
		}
		if l.next > s.now {
			continue
		}
		if s.Requests > 0 && n.daemon.requests >= s.Requests {
			s.TooMany++
			if l.tried++; l.tried >= tries {
				s.fail(n)
				return
			}
			l.next = s.now + s.RetryAfter
			continue
		}
		l.active, l.tried = true, 0
		n.daemon.requests++
		n.daemon.blobs[i].wanted = true
	}
}

// stream is one layer on its way to a node, with what it can take in this step.
type stream struct {
	*layer
	takes float64
}

// send moves bytes to the nodes, and ends the pulls that have all.
func (s *simulation) send() {
	by := map[*daemon][]stream{}
	for _, n := range s.nodes {
		if n.daemon != nil {
			by[n.daemon] = append(by[n.daemon], s.streamsOf(n)...)
		}
	}
	for _, d := range s.daemons {
		s.Sent += share(min(s.NIC, s.CPU)*s.Step, by[d])
	}
	for _, n := range s.nodes {
		if n.daemon != nil {
			s.finish(n)
		}
	}
}

func (s *simulation) streamsOf(n *node) (all []stream) {
	for i := range n.layers {
		l := &n.layers[i]
		if !l.active {
			continue
		}
		there := n.daemon.blobs[i].has
		if s.Shared && len(s.daemons) > 1 && there < float64(s.Layers[i]) {
			there = 0
		}
		if there > l.got {
			all = append(all, stream{layer: l, takes: there - l.got})
		}
	}
	for i := range all {
		all[i].takes = min(all[i].takes, s.NodeNIC*s.Step/float64(len(all)))
	}
	return all
}

// share gives each stream the same, or what it takes if that is less, and returns the sum.
func share(bytes float64, all []stream) (sent float64) {
	slices.SortFunc(all, func(a, b stream) int {
		switch {
		case a.takes < b.takes:
			return -1
		case a.takes > b.takes:
			return 1
		}
		return 0
	})
	for i, t := range all {
		gets := min(t.takes, (bytes-sent)/float64(len(all)-i))
		t.got += gets
		sent += gets
	}
	return sent
}

func (s *simulation) finish(n *node) {
	left := 0
	for i := range n.layers {
		l := &n.layers[i]
		if l.got < float64(s.Layers[i])-0.5 {
			left++
			continue
		}
		l.got = float64(s.Layers[i])
		if l.active {
			l.active = false
			n.daemon.requests--
		}
	}
	if left == 0 {
		n.done = s.now + s.Step
		s.Pulled++
		s.disconnect(n)
	}
}

func (s *simulation) sum() {
	var image float64
	for _, l := range s.Layers {
		image += float64(l)
	}
	s.Fetched /= image
	s.Sent /= image * float64(s.Nodes)
	var times []float64
	for _, n := range s.nodes {
		if n.done > 0 {
			times = append(times, n.done)
		}
	}
	if len(times) == 0 {
		return
	}
	slices.Sort(times)
	at := func(share float64) float64 { return times[min(len(times)-1, int(share*float64(len(times))))] }
	s.First, s.Median, s.P99, s.Last = times[0], at(0.5), at(0.99), times[len(times)-1]
}
