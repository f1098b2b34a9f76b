//go:build s3

package store

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/postgres"
)

// lose has the answer to a release be lost: the claim is gone, and this daemon does not know.
func (s *several) lose(id string) {
	s.t.Helper()
	s.proxy.Delay.Store(int64(time.Minute))
	released := make(chan struct{})
	go func() {
		defer close(released)
		s.other.guard.Sessions.Release(id)
	}()
	for s.rows(`SELECT count(*) FROM claims WHERE id = '`+id+`'`) > 0 {
		time.Sleep(time.Millisecond)
	}
	s.proxy.Delay.Store(0)
	s.proxy.Cut()
	<-released
}

// What a request has taken is not released with what its daemon could not release before.
func TestDaemons_takenWhileALateOneIsReleasedOnPostgreSQL(t *testing.T) {
	s := newSeveral(t)
	ctx := context.Background()
	take := func(id string) {
		t.Helper()
		for {
			taken, err := s.other.guard.Sessions.TryTake(ctx, id)
			if err == nil && taken {
				return
			}
			if err != nil && !errors.As(err, new(*UnavailableError)) {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Millisecond) // until it has connected again
		}
	}
	marks := s.other.db.(guarded).Marks()
	marks.SetMaxOpenConns(1) // or a release may need to connect
	const blocked = 8
	for n := range blocked + 1 {
		id := fmt.Sprint("late-", n)
		take(id)
		s.other.guard.Sessions.Release(id) // the next one takes one round trip
		take(id)
		s.lose(id)
	}
	db, err := postgres.Beside(databaseIn(t, s.dir), nil)
	s.must(err)
	defer func() { s.must(db.Close()) }()
	beside, err := db.BeginTx(ctx, nil)
	s.must(err)
	member := s.other.member()
	for n := range blocked { // as those whose release did not come to the server
		_, err := beside.ExecContext(ctx, `INSERT INTO claims (kind, id, daemon) VALUES ('upload', ?, ?)`, fmt.Sprint("late-", n), member)
		s.must(err)
	}
	s.must(beside.Commit())
	beside, err = db.BeginTx(ctx, nil)
	s.must(err)
	_, err = beside.ExecContext(ctx, `SELECT 1 FROM claims WHERE id LIKE 'late-%' FOR UPDATE`)
	s.must(err)
	marks.SetMaxOpenConns(2)
	tidied := make(chan error, 1)
	go func() { tidied <- s.other.guard.shared.Tidy(ctx) }()
	for s.rows(`SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'DELETE FROM claims%'`) == 0 {
		time.Sleep(time.Millisecond)
	}
	last := fmt.Sprint("late-", blocked)
	take(last)
	s.must(beside.Rollback())
	s.must(<-tidied)
	if n := s.rows(`SELECT count(*) FROM claims WHERE id = '` + last + `'`); n != 1 || !s.other.guard.Sessions.Holds(last) {
		t.Errorf("a request has it, holds %t, and the database has %d claims of it", s.other.guard.Sessions.Holds(last), n)
	}
	if n := s.rows(`SELECT count(*) FROM claims`); n != 1 {
		t.Errorf("%d claims are left, want that of the request", n)
	}
}
