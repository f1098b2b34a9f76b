package store

import (
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// arrivals counts what pull-through has brought since what it holds was counted: to count that for each blob that comes
// takes too long.
type arrivals struct {
	over chan struct{} // holds one token when the quota may be passed

	mu    sync.Mutex    // guards what follows
	quota int64         // 0: none was told yet
	held  int64         // when it was last counted
	since int64         // what has come after that
	wait  time.Duration // for what was spared
}

// add counts what has come.
func (a *arrivals) add(n int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.since += n
	if a.quota != 0 && a.held+a.since > a.quota {
		a.wake()
	}
}

// mark is what has come so far, for counted.
func (a *arrivals) mark() int64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.since
}

// counted records the evictable bytes with everything that had arrived at mark, and the bytes that were spared. Above the
// quota the next eviction is soon, and later each time.
func (a *arrivals) counted(quota, held, spared, mark int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.quota, a.held = quota, held+spared
	a.since -= mark
	if spared == 0 || a.held <= quota {
		a.wait = 0
		return
	}
	a.wait = min(max(2*a.wait, openTakes), guard.PushTakes)
	time.AfterFunc(a.wait, a.wake)
}

func (a *arrivals) wake() {
	select {
	case a.over <- struct{}{}:
	default:
	}
}

// QuotaPassed gives a token when pull-through may have brought more than the quota that EvictPulled was last called with.
func (s *Garbage) QuotaPassed() <-chan struct{} { return s.arrivals.over }
