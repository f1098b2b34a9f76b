// Package audit keeps what users did and were refused in the store, besides the journal.
//
// Log lines of the message "audit", which packages auth, oci and admin write, are the audit: a
// program that reads the journal has them all. Use Open, have those packages log through Handler,
// and Close. A line is put into a bounded queue, which costs a push no time, and a goroutine writes
// many lines in one transaction. Refused: rows in the transactions of pushes, which would wait for
// them, and a file beside the journal, in which nothing is found.
//
// The store has the newest 100,000 of each kind, for 90 days at most. What cannot be written, since
// the disk is full, is tried again while the queue takes more, and counted when it does not.
package audit

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/store"
)

const (
	most = 100_000 // records of a kind that are kept
	age  = 90 * 24 * time.Hour

	queueMost = 20_000 // records that wait
	batchMost = 2000   // records of a transaction
	delay     = time.Second
	again     = 30 * time.Second // after a failure
	trimEvery = time.Hour
	trimAfter = 10_000 // records, if that is sooner
	closeWait = 5 * time.Second
	byDefault = 100 // records of an answer
)

// Store is where the audit is kept. *store.Audit is it.
type Store interface {
	Add(ctx context.Context, records []store.AuditRecord) error
	List(ctx context.Context, f store.AuditFilter, limit int) ([]store.AuditRecord, error)
	Trim(ctx context.Context, kind string, most int, before time.Time) (removed int64, err error)
}

// Log is the audit.
type Log struct {
	store Store
	log   *slog.Logger // of the audit's own problems
	wake  chan struct{}
	quit  context.CancelFunc
	ended chan struct{}

	writing sync.Mutex // held while records are written, so that they keep their order

	mu    sync.Mutex // guards what follows
	queue []store.AuditRecord
	lost  int64 // since Open
	told  int64 // of these
}

// Open begins to write to the store. ctx must not end before Close.
func Open(ctx context.Context, s Store, log *slog.Logger) *Log {
	ctx, quit := context.WithCancel(ctx)
	l := &Log{store: s, log: log, wake: make(chan struct{}, 1), quit: quit, ended: make(chan struct{})}
	go func() {
		defer close(l.ended)
		l.run(ctx)
	}()
	return l
}

// Close writes what waits. It waits for the store for some seconds only.
func (l *Log) Close() error {
	l.quit()
	<-l.ended
	ctx, cancel := context.WithTimeout(context.Background(), closeWait)
	defer cancel()
	if _, err := l.flush(ctx); err != nil {
		l.mu.Lock()
		l.lost += int64(len(l.queue))
		l.queue = nil
		l.mu.Unlock()
		l.tell(err)
	}
	return nil
}

// Lost returns how many records since Open are in the journal alone.
func (l *Log) Lost() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lost
}

// add puts a record into the queue.
func (l *Log) add(r store.AuditRecord) {
	l.mu.Lock()
	if len(l.queue) >= queueMost {
		l.lost++
		l.mu.Unlock()
		return
	}
	l.queue = append(l.queue, r)
	l.mu.Unlock()
	l.signal()
}

// run writes what comes, and removes what is old, until ctx ends.
func (l *Log) run(ctx context.Context) {
	trim := time.NewTicker(trimEvery)
	defer trim.Stop()
	l.trim(ctx)
	written := 0
	for {
		select {
		case <-ctx.Done():
			return
		case <-trim.C:
			l.trim(ctx)
			continue
		case <-l.wake:
		}
		pause(ctx, delay)
		n, err := l.flush(ctx)
		if err != nil && ctx.Err() == nil {
			l.tell(err)
			pause(ctx, again)
			l.signal()
		}
		if written += n; written >= trimAfter {
			written = 0
			l.trim(ctx)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// flush writes what waits, and returns how many records that were. What fails waits on.
func (l *Log) flush(ctx context.Context) (n int, err error) {
	l.writing.Lock()
	defer l.writing.Unlock()
	for {
		l.mu.Lock()
		batch := l.queue[:min(len(l.queue), batchMost)]
		l.mu.Unlock()
		if len(batch) == 0 {
			break
		}
		if err := l.store.Add(ctx, batch); err != nil {
			return n, err
		}
		n += len(batch)
		l.mu.Lock()
		if l.queue = l.queue[len(batch):]; len(l.queue) == 0 {
			l.queue = nil
		}
		l.mu.Unlock()
	}
	l.tell(nil)
	return n, nil
}

// tell logs the records that were lost since it was last called.
func (l *Log) tell(err error) {
	l.mu.Lock()
	lost, waiting := l.lost-l.told, len(l.queue)
	l.told = l.lost
	l.mu.Unlock()
	switch {
	case err != nil && waiting > 0:
		l.log.Error("the audit cannot be written to the store: what waits is in the journal alone until that is tried again", "error", err, "waiting", waiting, "again", again)
	case err != nil:
		l.log.Error("the audit cannot be written to the store", "error", err)
	}
	if lost > 0 {
		l.log.Error("a part of the audit was not kept in the store, and is in the journal alone", "lost", lost)
	}
}

func (l *Log) trim(ctx context.Context) {
	for _, kind := range []string{api.AuditControl, api.AuditContent, api.AuditAccess} {
		if _, err := l.store.Trim(ctx, kind, most, time.Now().Add(-age)); err != nil && ctx.Err() == nil {
			l.log.Error("old records of the audit could not be removed", "error", err)
		}
	}
}

// List returns a part of the audit, with what has waited till now.
func (l *Log) List(ctx context.Context, q api.AuditRequest) (api.AuditPage, error) {
	if _, err := l.flush(ctx); err != nil && ctx.Err() == nil {
		l.log.DebugContext(ctx, "the audit is listed without what waits", "error", err) // run tells of it
	}
	if q.Limit == 0 {
		q.Limit = byDefault
	}
	found, err := l.store.List(ctx, store.AuditFilter{Kind: q.Kind, User: q.User, Event: q.Event, Text: q.Text,
		From: q.From, To: q.To, Before: q.After}, q.Limit+1)
	page := api.AuditPage{Records: []api.AuditRecord{}, Lost: l.Lost()}
	if len(found) > q.Limit {
		found = found[:q.Limit]
		page.Next = found[q.Limit-1].ID
	}
	for _, r := range found {
		page.Records = append(page.Records, api.AuditRecord{ID: r.ID, Kind: r.Kind, Time: r.At, Event: r.Event,
			User: r.User, Remote: r.Remote, Outcome: r.Outcome, Details: r.Details})
	}
	return page, err
}
