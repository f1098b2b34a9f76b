package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// A turn is a write of a user that takes as long as it says, and whether it is alone.
type turn struct {
	user  string
	cost  time.Duration
	alone bool
}

// takeTurns queues writes in order behind a held writer, lets them go, and says in which order they
// ran; a bar stands where a transaction ended.
func (f *fixture) takeTurns(turns ...turn) string {
	f.t.Helper()
	release := f.hold()
	var now atomic.Int64
	f.group.Now = func() time.Time { return time.Unix(0, now.Load()) }
	var order []string
	var last *sql.Tx
	note := func(i int, tx *sql.Tx) error {
		if last != nil && last != tx {
			order = append(order, "|")
		}
		last = tx
		order = append(order, fmt.Sprint(turns[i].user, i))
		now.Add(int64(turns[i].cost))
		return nil
	}
	var wg sync.WaitGroup
	for i, turn := range turns {
		wg.Go(func() {
			ctx := database.WithUser(f.ctx, turn.user)
			write := func() error {
				return f.Share(ctx, func(_ context.Context, tx *sql.Tx) error { return note(i, tx) })
			}
			if turn.alone {
				write = func() error { return f.Write(ctx, func(tx *sql.Tx) error { return note(i, tx) }) }
			}
			if err := write(); err != nil {
				f.t.Errorf("write %d: %v", i, err)
			}
		})
		f.queued(i + 1)
	}
	release()
	wg.Wait()
	return strings.Join(order, " ")
}

func TestGroup_turns(t *testing.T) {
	const short, long = time.Millisecond, time.Second
	for name, c := range map[string]struct {
		turns []turn
		want  string
	}{
		"short writes share a transaction": {
			[]turn{{"a", short, false}, {"b", short, false}, {"a", short, false}}, "a0 b1 a2"},
		"a long write ends its transaction": {
			[]turn{{"a", long, false}, {"a", short, false}, {"a", short, false}}, "a0 | a1 a2"},
		"a short write waits for one long write of another user": {
			[]turn{{"a", long, false}, {"a", long, false}, {"a", long, false}, {"b", short, false}}, "a0 | b3 a1 | a2"},
		"the user who was served least is next": {
			[]turn{{"a", long, false}, {"a", short, false}, {"b", short, false}, {"c", short, false}, {"b", short, false}, {"b", short, false}},
			"a0 | b2 c3 b4 b5 a1"},
		"a write that is alone has its turn": {
			[]turn{{"a", short, false}, {"a", short, false}, {"b", short, true}, {"c", short, false}}, "a0 | b2 | c3 a1"},
		"writes that are alone are not preferred": {
			[]turn{{"a", long, true}, {"a", long, true}, {"a", long, true}, {"b", short, false}}, "a0 | b3 | a1 | a2"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := newFixture(t).takeTurns(c.turns...); got != c.want {
				t.Errorf("the order is %s, want %s", got, c.want)
			}
		})
	}
}

func TestGroup_aloneIsTakenBackWhenItsContextEnds(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(f.ctx)
	err := f.Write(ctx, func(tx *sql.Tx) error {
		err := insertNote("a")(f.ctx, tx)
		cancel()
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	f.must(f.Share(f.ctx, insertNote("b")))
	if got := f.notes(); got != "b" {
		t.Errorf("written: %s", got)
	}
}
