package database

import (
	"slices"
	"time"
)

// queue holds the writes that wait, by user. The user with the least served time, which is the
// writer's time for it, is next: a write waits for those of its own user, and for one of each
// other. A user without waiting writes starts at the served time of the last turn, so that missed
// turns do not count.
type queue struct {
	lines map[string]*line
	came  uint64        // how many writes have come
	start time.Duration // the served time of the user taken last, before its turn
}

// line holds the writes of one user in order.
type line struct {
	served time.Duration
	writes []*shared
}

func (q *queue) add(w *shared) {
	if q.lines == nil {
		q.lines = map[string]*line{}
	}
	l := q.lines[w.user]
	if l == nil {
		l = &line{}
		q.lines[w.user] = l
	}
	if len(l.writes) == 0 {
		l.served = max(l.served, q.start)
	}
	q.came++
	w.came = q.came
	l.writes = append(l.writes, w)
}

// take returns the next write if may accepts it, and nil otherwise. An empty queue forgets its
// users.
func (q *queue) take(may func(*shared) bool) *shared {
	var next *line
	for _, l := range q.lines {
		if len(l.writes) > 0 && (next == nil || l.served < next.served ||
			l.served == next.served && l.writes[0].came < next.writes[0].came) {
			next = l
		}
	}
	if next == nil {
		q.lines, q.start = nil, 0
		return nil
	}
	w := next.writes[0]
	if !may(w) {
		return nil
	}
	next.writes = slices.Delete(next.writes, 0, 1)
	q.start = next.served
	return w
}

func (q *queue) charge(user string, cost time.Duration) {
	if l := q.lines[user]; l != nil {
		l.served += cost
	}
}

func (q *queue) remove(w *shared) bool {
	l := q.lines[w.user]
	if l == nil {
		return false
	}
	i := slices.Index(l.writes, w)
	if i < 0 {
		return false
	}
	l.writes = slices.Delete(l.writes, i, i+1)
	return true
}

func (q *queue) len() (n int) {
	for _, l := range q.lines {
		n += len(l.writes)
	}
	return n
}
