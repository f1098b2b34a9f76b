// Package feed simulates appliances that follow another by its feed of changes.
//
// Run is deterministic for a seed. The first one's changes are rows with increasing numbers, one for each
// thing: a change of the same thing takes the row to the end. A follower reads pages until one reports that
// nothing came after it, fetches the content of what it has read, and commits: then it is what the first was
// when the last page was read. Rows that every follower has committed go.
//
// Refused: a first whose processors are so busy that pages wait for each other. Their CPU is summed, and
// tells when the model ends.
package feed

import (
	"container/heap"
	"fmt"
	"math/rand/v2"
	"slices"
)

// Options describe the first, its changes, and its followers. Times are seconds.
type Options struct {
	Days float64

	Pushes  float64 // changes a second
	Hot     float64 // share of these that change a thing again, such as a tag that each build moves
	HotOf   int     // things that these are
	Bytes   float64 // of the content of a change
	Run     int     // changes of the run that ends each day, at once
	Horizon int     // rows that are kept; a follower that is behind them lists everything

	Followers  int
	RoundTrip  float64
	Page       int     // rows of a page
	PageCPU    float64 // of the first
	RowCPU     float64 // of the first, for each row of a page
	Bandwidth  float64 // bytes a second to a follower
	CutFrom    float64 // when the last of the followers is cut off
	CutTo      float64
	Manifests  int     // what a listing lists
	CommitTime float64 // of a follower
}

// Result is the outcome.
type Result struct {
	Changes int
	Rows    int     // the most at a time
	Pages   int     // read by all followers
	CPU     float64 // seconds of the first, by days and followers
	Commits int
	// How old the state of a follower was just before a commit; without the catching up of the one that was cut off.
	Median, P99, Max float64
	CatchUp          float64 // of the one that was cut off, after it was back
	CatchUpRows      int
	Listed           bool // it had to list everything
}

const (
	day    = 24 * 3600.0
	once   = -1
	settle = 1 // seconds from a change to the answer: others follow it often
)

// row is a change of a thing: a hot one, or one that changes once.
type row struct {
	number int
	thing  int
	bytes  float64
	dead   bool // the thing has changed again
}

type follower struct {
	since    int // number of the last row that it has
	reading  int
	bytes    float64
	read     int
	snapshot float64 // when the last page of its last commit was read
	seen     float64 // when the last page was read
	last     bool
	idle     bool // waits for a change
}

type event struct {
	at float64
	do func()
}

type queue []event

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at < q[j].at }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(event)) }
func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	*q = (*q)[:last]
	return e
}

type simulation struct {
	Options
	Result
	now       float64
	events    queue
	random    *rand.Rand
	rows      []*row // by number, the dead ones are dropped from time to time
	live      int
	of        map[int]*row // of hot things
	number    int
	gone      int // the last number that went although a follower may not have it
	followers []*follower
	behind    []float64
}

// Run simulates the days.
func Run(o Options) (Result, error) {
	if o.Days <= 0 || o.Followers <= 0 || o.Page <= 0 || o.Bandwidth <= 0 || o.Pushes < 0 || o.Hot > 0 && o.HotOf <= 0 {
		return Result{}, fmt.Errorf("simulate a feed: days, followers, rows of a page and bandwidth must be above zero")
	}
	s := &simulation{Options: o, random: rand.New(rand.NewPCG(1, 1)), of: map[int]*row{}}
	for i := range o.Followers {
		f := &follower{last: i == o.Followers-1 && o.CutTo > o.CutFrom}
		s.followers = append(s.followers, f)
		s.at(0, func() { s.page(f) })
	}
	if o.Pushes > 0 {
		s.at(s.random.ExpFloat64()/o.Pushes, s.push)
	}
	for d := 0.0; d < o.Days; d++ {
		s.at((d+0.5)*day, s.run)
	}
	for len(s.events) > 0 {
		e := heap.Pop(&s.events).(event)
		if e.at > o.Days*day {
			break
		}
		s.now = e.at
		e.do()
	}
	s.sum()
	return s.Result, nil
}

func (s *simulation) at(t float64, do func()) { heap.Push(&s.events, event{t, do}) }

func (s *simulation) push() {
	thing := once
	if s.random.Float64() < s.Hot {
		thing = s.random.IntN(s.HotOf)
	}
	s.change(thing)
	s.at(s.now+s.random.ExpFloat64()/s.Pushes, s.push)
}

func (s *simulation) run() {
	for range s.Options.Run {
		s.change(once)
	}
}

func (s *simulation) change(thing int) {
	s.number++
	s.Changes++
	r := &row{number: s.number, thing: thing, bytes: s.Bytes}
	if before := s.of[thing]; thing != once && before != nil && !before.dead {
		before.dead = true
		s.live--
	}
	if thing != once {
		s.of[thing] = r
	}
	s.rows = append(s.rows, r)
	s.live++
	s.wake()
	if s.Horizon > 0 && s.live > s.Horizon {
		s.gone = s.rows[0].number
		s.trim(s.gone)
	}
	s.Rows = max(s.Rows, s.live)
}

// wake answers the requests of the followers that wait for a change.
func (s *simulation) wake() {
	for _, f := range s.followers {
		if f.idle {
			f.idle, f.snapshot = false, s.now
			s.at(s.now+settle+s.RoundTrip, func() { s.page(f) })
		}
	}
}

// trim drops the rows up to a number, and dead ones once they are as many as the others.
func (s *simulation) trim(to int) {
	n, _ := slices.BinarySearchFunc(s.rows, to+1, func(r *row, number int) int { return r.number - number })
	for _, r := range s.rows[:n] {
		if !r.dead {
			r.dead = true
			s.live--
		}
	}
	s.rows = s.rows[n:]
	if len(s.rows) > 2*s.live+1000 {
		s.rows = slices.DeleteFunc(slices.Clone(s.rows), func(r *row) bool { return r.dead })
	}
}

// page is the answer to the request of a follower for the next page.
func (s *simulation) page(f *follower) {
	if f.last && s.now >= s.CutFrom && s.now < s.CutTo {
		f.reading, f.bytes = f.since, 0
		s.at(s.CutTo, func() { s.page(f) })
		return
	}
	s.Pages++
	if f.reading < s.gone {
		s.list(f)
		return
	}
	n, _ := slices.BinarySearchFunc(s.rows, f.reading+1, func(r *row, number int) int { return r.number - number })
	rows, at := 0, n
	for ; at < len(s.rows) && rows < s.Page; at++ {
		if r := s.rows[at]; !r.dead {
			rows++
			f.bytes += r.bytes
		}
		f.reading = s.rows[at].number
	}
	f.read += rows
	cost := s.PageCPU + float64(rows)*s.RowCPU
	s.CPU += cost
	if at < len(s.rows) {
		s.at(s.now+s.RoundTrip+cost, func() { s.page(f) })
		return
	}
	f.seen = s.now
	s.fetch(f)
}

// list has a follower list everything, and fetch what changed while it was away.
func (s *simulation) list(f *follower) {
	pages := (s.Manifests + s.Page - 1) / s.Page
	s.Pages += pages
	cost := float64(pages)*s.PageCPU + float64(s.Manifests)*s.RowCPU
	s.CPU += cost
	f.bytes += float64(s.number-f.since) * s.Bytes
	f.reading = s.number
	s.Listed = s.Listed || f.last
	s.at(s.now+float64(pages)*s.RoundTrip+cost, func() { s.page(f) })
}

func (s *simulation) fetch(f *follower) {
	if f.reading == f.since {
		s.commit(f)
		f.idle = true
		return
	}
	s.at(s.now+s.RoundTrip+f.bytes/s.Bandwidth+s.CommitTime, func() { s.commit(f); s.page(f) })
}

func (s *simulation) commit(f *follower) {
	late := f.last && f.snapshot < s.CutTo && f.seen >= s.CutTo
	if late {
		s.CatchUp, s.CatchUpRows = s.now-s.CutTo, f.read
	}
	if f.reading != f.since && !late {
		s.behind = append(s.behind, s.now-f.snapshot)
		s.Commits++
	}
	f.since, f.snapshot, f.bytes, f.read = f.reading, f.seen, 0, 0
	least := f.since
	for _, other := range s.followers {
		least = min(least, other.since)
	}
	s.trim(least)
}

func (s *simulation) sum() {
	s.CPU /= s.Days * float64(s.Followers)
	if len(s.behind) == 0 {
		return
	}
	slices.Sort(s.behind)
	at := func(share float64) float64 { return s.behind[min(len(s.behind)-1, int(share*float64(len(s.behind))))] }
	s.Median, s.P99, s.Max = at(0.5), at(0.99), s.behind[len(s.behind)-1]
}
