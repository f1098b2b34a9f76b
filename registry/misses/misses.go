// Package misses keeps what clients asked for and did not get: what a mirror lacks, before its cluster
// is cut off.
//
// Use Open, note with Missed, and run Keep in the background. What exists by the time of List is not
// listed any more, so that a push, which asks first, leaves none. One daemon has the list in memory, and
// writes it to a note. Several add to rows what each has noted since it last wrote, once a minute at
// most, see shared.go. Refused: a write for each miss, under the readers' load; and the access log,
// which has everything else too.
package misses

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
	"github.com/mirror-appliance/appliance/registry/store/sharedrows"
)

const (
	most  = 2000        // misses that are kept: clients choose the names
	often = time.Minute // between two writes
)

// Log is a bounded list of misses. Where it is full, the one that was missed least recently goes.
type Log struct {
	now    func() time.Time
	note   *jobs.Note[[]api.Miss]
	shared *sharedrows.Misses // nil: there is one daemon
	log    *slog.Logger

	writing sync.Mutex // held while rows are written or read, before mu

	mu      sync.Mutex        // guards the rest
	all     map[key]*api.Miss // with shared: those that are not written yet
	changed bool
}

type key struct{ repository, reference string }

func keyOf(m api.Miss) key { return key{m.Repository, m.Reference} }

// Open reads what was kept. shared are the rows of several daemons, nil where there is one; now is nil for
// time.Now.
func Open(ctx context.Context, notes jobs.Notes, shared *sharedrows.Misses, log *slog.Logger, now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	l := &Log{now: now, note: jobs.OpenNote[[]api.Miss](ctx, notes, "misses", log), shared: shared, log: log, all: map[key]*api.Miss{}}
	kept := l.note.Get()
	if kept == nil {
		return l
	}
	for _, m := range *kept {
		l.all[keyOf(m)] = &m
	}
	if shared != nil { // there was one daemon before
		l.changed = len(*kept) > 0
		l.note.Remove(ctx)
	}
	return l
}

// Missed notes that a client did not get a manifest, by a tag or a digest of a repository. user is ""
// for one without a login, remote the address of the connection. A signature or another attachment by
// its tag is none: clients ask for those of images that are not signed.
func (l *Log) Missed(repository, reference, user, remote string) {
	if _, is := image.AttachmentOf(reference); is {
		return
	}
	address, _, err := net.SplitHostPort(remote)
	if err != nil {
		address = remote
	}
	now := l.now()
	l.mu.Lock()
	defer l.mu.Unlock()
	at := key{repository, reference}
	if l.all[at] == nil {
		if len(l.all) >= most {
			l.dropOldest()
		}
		l.all[at] = &api.Miss{Repository: repository, Reference: reference, First: now}
	}
	m := l.all[at]
	m.Count++
	m.Last, m.User, m.Address = now, user, address
	l.changed = true
}

// dropOldest is called with mu held. It makes room for more than one, so that a client that asks for
// many names is not slow.
func (l *Log) dropOldest() {
	oldest := slices.SortedFunc(maps.Keys(l.all), func(a, b key) int { return l.all[a].Last.Compare(l.all[b].Last) })
	for _, k := range oldest[:len(oldest)/10] {
		delete(l.all, k)
	}
}

// List returns the misses that do not exist now, the latest first, and forgets the others.
func (l *Log) List(ctx context.Context, held func(ctx context.Context, repository, reference string) bool) ([]api.Miss, error) {
	own := l.copied()
	all := own
	var rows []sharedrows.Miss
	if l.shared != nil {
		var err error
		if own, rows, err = l.read(ctx); err != nil {
			return nil, fmt.Errorf("read what clients asked for and did not get: %w", err)
		}
		all = sum(own, rows)
	}
	gone := map[key]bool{}
	all = slices.DeleteFunc(slices.Clone(all), func(m api.Miss) bool {
		is := held(ctx, m.Repository, m.Reference)
		if is {
			gone[keyOf(m)] = true
		}
		return is
	})
	l.forget(own, gone)
	l.forgetRows(ctx, rows, gone)
	return all, nil
}

// forget forgets those that are gone, and that were not missed again since they were listed.
func (l *Log) forget(listed []api.Miss, gone map[key]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range listed {
		if at := keyOf(m); gone[at] && l.all[at] != nil && l.all[at].Count == m.Count {
			delete(l.all, at)
			l.changed = true
		}
	}
}

// Clear forgets all misses, for good.
func (l *Log) Clear(ctx context.Context) error {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.shared != nil {
		if err := l.shared.Clear(ctx, l.now()); err != nil {
			return fmt.Errorf("forget what clients asked for and did not get: %w", err)
		}
	}
	l.mu.Lock()
	clear(l.all)
	l.changed = l.shared == nil
	l.mu.Unlock()
	l.write(ctx)
	return nil
}

func (l *Log) copied() []api.Miss {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := []api.Miss{}
	for _, m := range l.all {
		all = append(all, *m)
	}
	return sorted(all)
}

// sorted sorts misses, the latest first.
func sorted(all []api.Miss) []api.Miss {
	slices.SortFunc(all, func(a, b api.Miss) int {
		return cmp.Or(b.Last.Compare(a.Last), cmp.Compare(a.Repository, b.Repository), cmp.Compare(a.Reference, b.Reference))
	})
	return all
}

// Keep writes the misses now and then, until ctx ends, and once more then.
func (l *Log) Keep(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			l.save(context.WithoutCancel(ctx))
			return nil
		case <-time.After(often):
			l.save(ctx)
		}
	}
}

func (l *Log) save(ctx context.Context) {
	l.writing.Lock()
	defer l.writing.Unlock()
	if l.shared != nil {
		l.add(ctx)
	} else {
		l.write(ctx)
	}
}

func (l *Log) write(ctx context.Context) {
	l.mu.Lock()
	changed := l.changed
	l.changed = false
	l.mu.Unlock()
	if changed {
		l.note.Set(ctx, l.copied())
	}
}
