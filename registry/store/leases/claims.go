package leases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// What claims are of.
const (
	upload = "upload"
	commit = "commit"
)

// waitEvery is how long a request waits between two looks at what another daemon has.
const waitEvery = 20 * time.Millisecond

// claims are what this daemon has alone.
type claims struct {
	db  Database
	log *slog.Logger

	mu     sync.Mutex // guards what follows
	held   map[claim]string
	late   map[claim]string // that could not be released yet
	taking map[claim]int    // requests that are about to take it
	giving map[claim]bool   // it is being released, late
}

type claim struct{ kind, id string }

func newClaims(db Database, log *slog.Logger) *claims {
	return &claims{db: db, log: log, held: map[claim]string{}, late: map[claim]string{}, taking: map[claim]int{}, giving: map[claim]bool{}}
}

// begin keeps tidy from a claim that a request of this daemon is about to take, until end: in the rows, one that is taken again looks
// as the one that is late. It returns false while tidy releases it.
func (c *claims) begin(of claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.giving[of] {
		return false
	}
	c.taking[of]++
	return true
}

func (c *claims) end(of claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.taking[of]--; c.taking[of] == 0 {
		delete(c.taking, of)
	}
}

// in takes what is free, or a dead daemon's, in a transaction, and reports whether it did.
func (c *claims) in(ctx context.Context, tx *sql.Tx, of claim) (bool, error) {
	if !c.begin(of) {
		return false, nil
	}
	defer c.end(of)
	member := c.db.Member()
	taken, err := affected(ctx, tx, `INSERT INTO claims (kind, id, daemon) VALUES (?1, ?2, ?3)
		ON CONFLICT (kind, id) DO UPDATE SET daemon = excluded.daemon WHERE NOT EXISTS (SELECT 1 FROM daemons d WHERE d.id = claims.daemon)`, of.kind, of.id, member)
	if err != nil || !taken {
		return false, err
	}
	c.mu.Lock()
	c.held[of] = member
	delete(c.late, of)
	c.mu.Unlock()
	return true, nil
}

// take is in, beside the writes: it waits for none of them, and one row decides.
func (c *claims) take(ctx context.Context, of claim) (bool, error) {
	if !c.begin(of) {
		return false, nil
	}
	defer c.end(of)
	member := c.db.Member()
	taken, err := c.mark(ctx, `INSERT INTO claims (kind, id, daemon) SELECT ?1, ?2, ?3 FROM (SELECT appliance_member(?3)) m
		ON CONFLICT (kind, id) DO UPDATE SET daemon = excluded.daemon WHERE NOT EXISTS (SELECT 1 FROM daemons d WHERE d.id = claims.daemon)`, of.kind, of.id, member)
	c.mu.Lock()
	defer c.mu.Unlock()
	_, here := c.held[of] // by another request, whose claim stays
	switch {
	case err != nil && !here:
		c.late[of] = member // it may be in effect
	case err == nil && taken:
		c.held[of] = member
		delete(c.late, of)
	}
	return taken && err == nil, err
}

// mark runs a statement beside the writes, and reports whether it changed a row. It does not end with ctx: a statement that
// is broken off loses its connection, and may be in effect.
func (c *claims) mark(ctx context.Context, text string, args ...any) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	result, err := c.db.Marks().ExecContext(context.WithoutCancel(ctx), text, args...)
	if err != nil {
		return false, err
	}
	n, err := result.RowsAffected()
	return n > 0, err
}

// abandon gives up what was taken in a transaction that failed: it may be in effect.
func (c *claims) abandon(of claim) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if member, ok := c.held[of]; ok {
		delete(c.held, of)
		c.late[of] = member
	}
}

// holds reports whether this daemon surely has what it took.
func (c *claims) holds(of claim) bool {
	c.mu.Lock()
	member, ok := c.held[of]
	c.mu.Unlock()
	return ok && c.db.Holds(member)
}

// here reports whether a request of this daemon has something.
func (c *claims) here(of claim) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	_, ok := c.held[of]
	return ok
}

// free reports whether no daemon has something.
func (c *claims) free(ctx context.Context, of claim) (bool, error) {
	taken, err := database.Exists(ctx, c.db.Reader(), `SELECT 1 FROM claims c JOIN daemons d ON d.id = c.daemon WHERE c.kind = ? AND c.id = ?`, of.kind, of.id)
	return !taken, err
}

// wait calls try until it has taken something. It returns errBusy after patience, 0 for as long as ctx lasts.
func (c *claims) wait(ctx context.Context, of claim, patience time.Duration, try func() (bool, error)) error {
	for began := time.Now(); ; {
		taken, err := try()
		if taken || err != nil {
			return err
		}
		for free := false; !free; {
			if patience > 0 && time.Since(began) > patience {
				return errBusy
			}
			if err := retry.Sleep(ctx, waitEvery); err != nil {
				return err
			}
			if free, err = c.free(ctx, of); err != nil {
				return err
			}
		}
	}
}

var errBusy = errors.New("another request has it")

// giver gives back what a member has.
type giver func(ctx context.Context, of claim, member string) error

// release gives something back, now or, when the database does not answer, later.
func (c *claims) release(of claim, give giver) {
	c.mu.Lock()
	member, ok := c.held[of]
	delete(c.held, of)
	c.mu.Unlock()
	if !ok {
		return
	}
	if err := give(context.Background(), of, member); err != nil {
		c.log.Warn("could not release "+of.kind+" "+of.id+"; it is done later", "error", err)
		c.mu.Lock()
		if _, again := c.held[of]; !again { // else it was released, and a request of this daemon has it since
			c.late[of] = member
		}
		c.mu.Unlock()
	}
}

const ours = `FROM claims WHERE kind = ?1 AND id = ?2 AND daemon = ?3`

// give deletes a claim of a member, beside the writes.
func (c *claims) give(ctx context.Context, of claim, member string) error {
	_, err := c.mark(ctx, `DELETE `+ours, of.kind, of.id, member)
	return err
}

// giveIn deletes a claim of a member in a transaction, and does something else there if the claim was there.
func (c *claims) giveIn(ctx context.Context, of claim, member string, also func(context.Context, *sql.Tx) error) error {
	return c.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		had, err := affected(ctx, tx, `DELETE `+ours, of.kind, of.id, member)
		if err == nil && had {
			err = also(ctx, tx)
		}
		return err
	})
}

// tidy releases what could not be released.
func (c *claims) tidy(ctx context.Context) error {
	c.mu.Lock()
	late := slices.Collect(maps.Keys(c.late))
	c.mu.Unlock()
	for _, of := range late {
		if err := c.giveLate(ctx, of); err != nil {
			return fmt.Errorf("release %s %s: %w", of.kind, of.id, err)
		}
	}
	return nil
}

// giveLate releases something that is still late. What a request of this daemon has taken since, or is about to take, stays.
func (c *claims) giveLate(ctx context.Context, of claim) error {
	c.mu.Lock()
	member, still := c.late[of]
	if !still || c.taking[of] > 0 || c.giving[of] {
		c.mu.Unlock()
		return nil
	}
	c.giving[of] = true
	c.mu.Unlock()
	err := c.give(ctx, of, member)
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.giving, of)
	if err == nil && c.late[of] == member {
		delete(c.late, of)
	}
	return err
}
