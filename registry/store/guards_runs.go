package store

import (
	"context"
	"database/sql"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
	"github.com/mirror-appliance/appliance/registry/store/leases"
)

// runGuard knows which runs are alive.
type runGuard interface {
	// Enter keeps a run alive until Leave.
	Enter(id string)
	Leave(id string)
	// EnterCommit waits until no other request commits a run, and reserves it until LeaveCommit.
	EnterCommit(ctx context.Context, id string) error
	LeaveCommit(id string)
	Committing(ctx context.Context, q database.Querier, id string) (bool, error)
	// HeardOf records an access of a run that is not in its row, and TakeHeard returns them.
	HeardOf(id string, t time.Time)
	TakeHeard() map[string]time.Time
	Active(ctx context.Context, q database.Querier, id string, before time.Time) (bool, error)
	// Watch records the links of blobs that are deleted while a run is committed.
	Watch(ctx context.Context, id string) (lostLinks, error)
}

// lostLinks are the links that were deleted since Watch, or the last Again. The caller calls end.
type lostLinks interface {
	// Again forgets those so far.
	Again(ctx context.Context) error
	// Take returns them in the transaction that shows a run. many means too many for one transaction.
	Take(ctx context.Context, tx *sql.Tx) (lost []linkKey, many bool, err error)
	End()
}

// memoryRuns is the runGuard of one daemon.
type memoryRuns struct {
	*guard.Runs
	store *core
}

func (m *memoryRuns) Committing(_ context.Context, _ database.Querier, id string) (bool, error) {
	return m.Runs.Committing(id), nil
}

func (m *memoryRuns) Active(_ context.Context, _ database.Querier, id string, before time.Time) (bool, error) {
	return m.Runs.Active(id, before), nil
}

func (m *memoryRuns) Watch(context.Context, string) (lostLinks, error) {
	return &memoryLost{watch: m.store.cache.links.watch(), of: &m.store.cache.links}, nil
}

// memoryLost has what the database tells of the deletions of this process.
type memoryLost struct {
	watch *linkWatch
	of    *linkWatches
	lost  []linkKey // of all attempts: the transaction may run again
	many  bool
}

func (m *memoryLost) Again(context.Context) error { m.lost, m.many = nil, false; return nil }

func (m *memoryLost) Take(context.Context, *sql.Tx) (lost []linkKey, many bool, err error) {
	since, tooMany := m.watch.take()
	m.lost, m.many = append(m.lost, since...), m.many || tooMany
	return m.lost, m.many, nil
}

func (m *memoryLost) End() { m.of.unwatch(m.watch) }

// sharedRuns is the runGuard of several daemons.
type sharedRuns struct{ *leases.Runs }

func (r sharedRuns) Watch(ctx context.Context, id string) (lostLinks, error) {
	lost, err := r.Runs.Watch(ctx, id)
	return sharedLost{lost}, err
}

// sharedLost has what a trigger writes of the deletions of all daemons.
type sharedLost struct{ *leases.Lost }

func (l sharedLost) Take(ctx context.Context, tx *sql.Tx) (lost []linkKey, many bool, err error) {
	links, err := l.Links(ctx, tx, lostKept+1)
	if len(links) > lostKept {
		return nil, true, err
	}
	for _, one := range links {
		lost = append(lost, linkKey{one.Repository, one.Digest})
	}
	return lost, false, err
}

func (l sharedLost) End() {}

// aliveFor is how far behind the last access of a run may be in its row, where other daemons have it.
const aliveFor = 2 * runSeen

// staleRuns returns before which an access is one of a stale run.
func (s *core) staleRuns(before time.Time) time.Time {
	if s.guard.shared != nil {
		return before.Add(-aliveFor)
	}
	return before
}
