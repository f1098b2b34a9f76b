// Package misses keeps what clients asked for and did not get: what a mirror lacks, before its cluster
// is cut off.
//
// Use Open, note with Missed, and run Keep in the background. What is held by the time of List is no
// miss any more, so that a push, which asks first, leaves none. Refused: a row of the database for each
// miss, which is written under the readers' load; and the access log, which has everything else too.
package misses

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/jobs"
)

const (
	most  = 2000        // misses that are kept: clients choose the names
	often = time.Minute // between two writes
)

// Log is a bounded list of misses. Where it is full, the one that was missed least recently goes.
type Log struct {
	now  func() time.Time
	note *jobs.Note[[]api.Miss]

	mu      sync.Mutex // guards the rest
	all     map[key]*api.Miss
	changed bool
}

type key struct{ repository, reference string }

// Open reads what was kept. now is nil for time.Now.
func Open(ctx context.Context, notes jobs.Notes, log *slog.Logger, now func() time.Time) *Log {
	if now == nil {
		now = time.Now
	}
	l := &Log{now: now, note: jobs.OpenNote[[]api.Miss](ctx, notes, "misses", log), all: map[key]*api.Miss{}}
	if kept := l.note.Get(); kept != nil {
		for _, m := range *kept {
			l.all[key{m.Repository, m.Reference}] = &m
		}
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

// List returns the misses that are not held now, the latest first, and forgets the others.
func (l *Log) List(ctx context.Context, held func(ctx context.Context, repository, reference string) bool) []api.Miss {
	all := l.copied()
	var gone []api.Miss
	all = slices.DeleteFunc(all, func(m api.Miss) bool {
		is := held(ctx, m.Repository, m.Reference)
		if is {
			gone = append(gone, m)
		}
		return is
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, m := range gone {
		if at := (key{m.Repository, m.Reference}); l.all[at] != nil && l.all[at].Count == m.Count {
			delete(l.all, at)
			l.changed = true
		}
	}
	return all
}

// Clear forgets all misses, for good.
func (l *Log) Clear(ctx context.Context) {
	l.mu.Lock()
	clear(l.all)
	l.changed = true
	l.mu.Unlock()
	l.write(ctx)
}

func (l *Log) copied() []api.Miss {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := []api.Miss{}
	for _, m := range l.all {
		all = append(all, *m)
	}
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
			l.write(context.WithoutCancel(ctx))
			return nil
		case <-time.After(often):
			l.write(ctx)
		}
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
