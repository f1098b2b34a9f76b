package registry

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
)

// trafficSpan is over how many seconds the bytes of a second are averaged.
const trafficSpan = 5

// flow is what moves in one direction: requests under way, and the bytes of the last seconds, as they flow. The metrics
// count requests that have ended, and a large blob takes minutes.
type flow struct {
	mu       sync.Mutex
	requests int64
	bytes    [trafficSpan + 1]int64 // of the second that is its index, modulo the length
	last     int64                  // the second of the newest
}

// traffic has a flow of pulls and of pushes.
type traffic struct{ pulls, pushes flow }

// of returns the flow that a request is part of, or nil.
func (t *traffic) of(r *http.Request) *flow {
	switch kind := kindOf(r.URL.Path); {
	case kind == "upload", kind == "manifest" && r.Method == http.MethodPut, isRunContent(r):
		return &t.pushes
	case kind == "blob" || kind == "manifest":
		return &t.pulls
	}
	return nil
}

// isRunContent reports whether a request brings content of a run.
func isRunContent(r *http.Request) bool {
	return r.Method == http.MethodPut && strings.HasPrefix(r.URL.Path, api.BeginSync.Path+"/")
}

// begin and end count a request. A nil flow counts nothing, and so does add.
func (f *flow) begin() { f.count(1) }
func (f *flow) end()   { f.count(-1) }

func (f *flow) count(n int64) {
	if f == nil {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.requests += n
}

// add counts bytes that moved.
func (f *flow) add(n int) {
	if f == nil || n <= 0 {
		return
	}
	now := time.Now().Unix()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	f.bytes[now%int64(len(f.bytes))] += int64(n)
}

// turn empties the seconds since the newest.
func (f *flow) turn(now int64) {
	length := int64(len(f.bytes))
	for s := max(f.last+1, now-length+1); s <= now; s++ {
		f.bytes[s%length] = 0
	}
	f.last = max(f.last, now)
}

// state returns the requests under way, and the bytes a second of the last seconds that are over.
func (f *flow) state() api.Flow {
	now := time.Now().Unix()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.turn(now)
	var sum int64
	for i, n := range f.bytes {
		if int64(i) != now%int64(len(f.bytes)) {
			sum += n
		}
	}
	return api.Flow{Requests: f.requests, BytesPerSecond: sum / trafficSpan}
}

func (t *traffic) state() *api.Traffic {
	return &api.Traffic{Pulls: t.pulls.state(), Pushes: t.pushes.state()}
}
