package registry

import (
	"context"
	"encoding/json"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

const (
	// tellEvery is how often a daemon of several writes how far its work is.
	tellEvery = 2 * time.Second
	// boardTime bounds a look at what other daemons do, and a result's way there.
	boardTime = 5 * time.Second
)

// board has what work on request has come to: how far it is, P, and its last result, R. One daemon has it in memory.
// Several show each other's by a row, so that a page that comes to another one finds it.
type board[P, R any] struct {
	name string
	rows *sharedrows.Work        // nil: there is one daemon
	at   func(p *P, host string) // notes the host of another daemon
	log  *slog.Logger

	mu    sync.Mutex // guards doing
	doing *P         // here; nil: nothing

	looking sync.Mutex // held while the row is read or written; guards what follows
	last    *R
	ended   int64 // of last, as the row has it
}

func newBoard[P, R any](d *daemon, name string, at func(p *P, host string)) *board[P, R] {
	b := &board[P, R]{name: name, at: at, log: d.log}
	if d.store.Several() {
		b.rows = d.store.Shared().Work
	}
	return b
}

// during shows work of this daemon until end is called. stop is called when another daemon is asked to end it.
func (b *board[P, R]) during(stop func()) (tell func(P), end func()) {
	if b.rows == nil {
		return func(p P) { b.set(&p) }, func() { b.set(nil) }
	}
	begun, done := make(chan struct{}), make(chan struct{})
	var first sync.Once
	var telling sync.WaitGroup
	telling.Go(func() { b.telling(begun, done, stop) })
	tell = func(p P) {
		b.set(&p)
		first.Do(func() { close(begun) })
	}
	end = func() {
		close(done)
		telling.Wait()
		b.set(nil)
	}
	return tell, end
}

func (b *board[P, R]) set(p *P) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.doing = p
}

// here returns how far this daemon is, nil if it does not do the work.
func (b *board[P, R]) here() *P {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.doing
}

// telling writes how far the work is: at once when it has begun, then every other second, and that it has ended.
func (b *board[P, R]) telling(begun, done <-chan struct{}, stop func()) {
	select {
	case <-begun:
	case <-done:
		return
	}
	run, host := uuid.NewString(), hostHere()
	failed := false
	for {
		text, err := json.Marshal(b.here())
		ctx, cancel := context.WithTimeout(context.Background(), boardTime)
		stopped := false
		if err == nil {
			stopped, err = b.rows.Tell(ctx, b.name, sharedrows.Doing{Host: host, Run: run, Progress: string(text)})
		}
		cancel()
		if err != nil && !failed {
			b.log.Warn("other daemons are not told what this one does", "work", b.name, "error", err)
		}
		if failed = err != nil; stopped {
			stop()
		}
		select {
		case <-time.After(tellEvery):
		case <-done:
			ctx, cancel := context.WithTimeout(context.Background(), boardTime)
			defer cancel()
			if err := b.rows.End(ctx, b.name, run); err != nil { // they find out when nothing more is told
				b.log.Warn("other daemons are not told that work has ended", "work", b.name, "error", err)
			}
			return
		}
	}
}

// hostHere names this host for the users of another daemon.
func hostHere() string {
	name, err := os.Hostname()
	if err != nil {
		return "another host"
	}
	return name
}

// keep keeps a result in the place of the one before; nil removes that.
func (b *board[P, R]) keep(r *R) {
	b.looking.Lock()
	defer b.looking.Unlock()
	b.last = r
	if b.rows == nil {
		return
	}
	text := ""
	if r != nil {
		data, err := json.Marshal(r)
		if err != nil {
			b.log.Warn("a result cannot be kept for other daemons", "work", b.name, "error", err)
			return
		}
		text = string(data)
	}
	ctx, cancel := context.WithTimeout(context.Background(), boardTime)
	defer cancel()
	if err := b.rows.Keep(ctx, b.name, hostHere(), text); err != nil {
		b.log.Warn("other daemons are not told what work has come to", "work", b.name, "error", err)
	}
}

// sight is what a board shows.
type sight[P, R any] struct {
	doing *P // nil: no daemon does it
	last  *R // the last result

	// interrupted is how far work was whose daemon was killed or has lost the database, nil if there is none, and told
	// when it told that.
	interrupted *P
	host        string // of that daemon
	told        time.Time
}

// look returns how far the work is, nil if no daemon does it, and the last result.
func (b *board[P, R]) look(ctx context.Context) (doing *P, last *R) {
	s := b.see(ctx)
	return s.doing, s.last
}

func (b *board[P, R]) see(ctx context.Context) sight[P, R] {
	b.looking.Lock()
	defer b.looking.Unlock()
	s := sight[P, R]{doing: b.here()}
	if b.rows != nil {
		ctx, cancel := context.WithTimeout(ctx, boardTime)
		defer cancel()
		if err := b.read(ctx, &s); err != nil {
			b.log.Warn("what other daemons do is not known", "work", b.name, "error", err)
		}
	}
	s.last = b.last
	return s
}

// read adds what the row has; the caller holds looking.
func (b *board[P, R]) read(ctx context.Context, s *sight[P, R]) error {
	row, err := b.rows.Get(ctx, b.name, b.ended)
	if err == nil && row.Ended != b.ended {
		b.last, b.ended = nil, row.Ended
		if row.Result != "" {
			b.last = new(R)
			err = json.Unmarshal([]byte(row.Result), b.last)
		}
	}
	if err != nil || s.doing != nil {
		return err
	}
	if row.Interrupted != nil {
		s.told, s.host = row.Told, row.Interrupted.Host
		s.interrupted, err = b.progress(row.Interrupted)
		return err
	}
	s.doing, err = b.progress(row.Doing)
	return err
}

// progress returns how far another daemon has told to be, nil if it has told nothing.
func (b *board[P, R]) progress(of *sharedrows.Doing) (*P, error) {
	if of == nil {
		return nil, nil
	}
	p := new(P)
	err := json.Unmarshal([]byte(of.Progress), p)
	b.at(p, of.Host)
	return p, err
}

// stop ends the work, here or at another daemon, and reports whether there is any.
func (b *board[P, R]) stop(ctx context.Context, here func() bool) bool {
	if here() {
		return true
	}
	if b.rows == nil {
		return false
	}
	running, err := b.rows.Stop(ctx, b.name)
	if err != nil {
		b.log.Warn("the daemon that does it is not told to end it", "work", b.name, "error", err)
	}
	return running
}

// shown returns what does a kind of work, so that a board shows it. stop ends it.
func shown[Q, P, R, K any](b *board[P, K], stop func() bool, run func(context.Context, Q, func(P)) (R, error)) func(context.Context, Q, func(P)) (R, error) {
	return func(ctx context.Context, q Q, progress func(P)) (R, error) {
		tell, end := b.during(func() { stop() })
		defer end()
		return run(ctx, q, func(p P) {
			tell(p)
			progress(p)
		})
	}
}
