package leases

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/guard"
)

// Session is an upload session.
type Session struct {
	Repository, User string
	Created          time.Time
	Files            bool // it has received a byte
}

// Sessions are the upload sessions of all daemons: each is one request's at a time, and they are counted.
type Sessions struct {
	Each, All int // bounds those of a user, and those of all

	claims *claims
	now    func() time.Time
}

// TryTake takes an upload, which need not be a session, unless a request has it.
func (s *Sessions) TryTake(ctx context.Context, id string) (taken bool, err error) {
	return s.claims.take(ctx, claim{upload, id})
}

// Take is TryTake with patience. *guard.BusyError.
func (s *Sessions) Take(ctx context.Context, id string, patience time.Duration) error {
	return s.busy(id, s.claims.wait(ctx, claim{upload, id}, patience, func() (bool, error) { return s.TryTake(ctx, id) }))
}

func (s *Sessions) busy(id string, err error) error {
	if errors.Is(err, errBusy) {
		return &guard.BusyError{ID: id, Elsewhere: !s.claims.here(claim{upload, id})}
	}
	return err
}

// Resume takes a session of a repository. found is false when there is none. *guard.BusyError.
func (s *Sessions) Resume(ctx context.Context, repo, id string, patience time.Duration) (one Session, found bool, err error) {
	try := func() (bool, error) {
		taken, err := s.TryTake(ctx, id)
		if err != nil {
			return false, err
		}
		one, found, err = s.use(ctx, repo, id) // of one that is taken, nothing changes any more
		if taken && (!found || err != nil) {
			s.Release(id)
		}
		return taken || !found, err
	}
	err = s.busy(id, s.claims.wait(ctx, claim{upload, id}, patience, try))
	return one, found && err == nil, err
}

// use records an access to a session, and returns it.
func (s *Sessions) use(ctx context.Context, repo, id string) (one Session, found bool, err error) {
	var created, files int64
	err = s.claims.db.Marks().QueryRowContext(context.WithoutCancel(ctx), `UPDATE uploads SET used = max(used, ?1) WHERE id = ?2 AND repository = ?3 RETURNING "user", created, files`,
		database.Nanos(s.now()), id, repo).Scan(&one.User, &created, &files)
	if errors.Is(err, sql.ErrNoRows) {
		return Session{}, false, nil
	}
	one.Repository, one.Created, one.Files = repo, database.Time(created), files > 0
	return one, err == nil, err
}

// InUse reports whether a request has an upload. It does as well when the database does not answer.
func (s *Sessions) InUse(ctx context.Context, id string) bool {
	free, err := s.claims.free(ctx, claim{upload, id})
	return !free || err != nil
}

// Holds reports whether this daemon surely has an upload that it took: no other one writes to it.
func (s *Sessions) Holds(id string) bool { return s.claims.holds(claim{upload, id}) }

// Release gives an upload back.
func (s *Sessions) Release(id string) { s.claims.release(claim{upload, id}, s.claims.give) }

// End gives an upload back that has ended.
func (s *Sessions) End(id string) {
	s.claims.release(claim{upload, id}, func(ctx context.Context, of claim, member string) error {
		_, err := s.claims.mark(ctx, `WITH ended AS (DELETE FROM uploads WHERE id = ?2 AND EXISTS (SELECT 1 `+ours+`)) DELETE `+ours, of.kind, of.id, member)
		return err
	})
}

const (
	// unused selects the least recently used session of the user ?1, with files or without, ?2, that no request has.
	unused = `SELECT id FROM uploads u WHERE "user" = ?1 AND files = ?2
		AND NOT EXISTS (SELECT 1 FROM claims c JOIN daemons d ON d.id = c.daemon WHERE c.kind = 'upload' AND c.id = u.id) ORDER BY used, id LIMIT 1`
	oldest = `SELECT id FROM uploads u WHERE files = 0
		AND NOT EXISTS (SELECT 1 FROM claims c JOIN daemons d ON d.id = c.daemon WHERE c.kind = 'upload' AND c.id = u.id) ORDER BY used, id LIMIT 1`
)

// Begin records a session without a byte. The least recently used one of the user makes room for it.
func (s *Sessions) Begin(ctx context.Context, id string, one Session) error {
	return s.claims.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		known, err := affected(ctx, tx, `UPDATE uploads SET used = ?1 WHERE id = ?2`, database.Nanos(s.now()), id)
		if known || err != nil {
			return err
		}
		mine, all, err := s.count(ctx, tx, one.User, 0)
		if err != nil {
			return err
		}
		drop := ""
		switch {
		case mine >= s.Each:
			err = tx.QueryRowContext(ctx, unused, one.User, 0).Scan(&drop)
		case all >= s.All:
			err = tx.QueryRowContext(ctx, oldest).Scan(&drop)
		}
		if err == nil && drop != "" {
			_, err = tx.ExecContext(ctx, `DELETE FROM uploads WHERE id = ?`, drop)
		}
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return err
		}
		return s.write(ctx, tx, id, one)
	})
}

func (s *Sessions) write(ctx context.Context, tx *sql.Tx, id string, one Session) error {
	files := 0
	if one.Files {
		files = 1
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO uploads (id, repository, "user", created, used, files) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
		ON CONFLICT (id) DO UPDATE SET files = excluded.files, used = excluded.used`,
		id, one.Repository, one.User, database.Nanos(one.Created), database.Nanos(s.now()), files)
	return err
}

// count counts the sessions of a user and of all, with files or without, no further than the bounds.
func (s *Sessions) count(ctx context.Context, tx *sql.Tx, user string, files int) (mine, all int, err error) {
	err = tx.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM (SELECT 1 FROM uploads WHERE "user" = ?1 AND files = ?2 LIMIT ?3) mine),
		(SELECT count(*) FROM (SELECT 1 FROM uploads WHERE files = ?2 LIMIT ?4) everyones)`, user, files, s.Each, s.All).Scan(&mine, &all)
	return mine, all, err
}

// Admit takes a session that receives its first byte, and counts it. At a bound, limit is that, and drop
// the least recently used session of the user that no request has, if there is one: it is taken for the
// caller, which removes what the storage has of it and calls End.
func (s *Sessions) Admit(ctx context.Context, id string, one Session) (limit int, drop string, err error) {
	err = s.claims.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		limit, drop = 0, ""
		mine, all, err := s.count(ctx, tx, one.User, 1)
		if err != nil {
			return err
		}
		if mine >= s.Each {
			limit = s.Each
		} else if all >= s.All {
			limit = s.All
		}
		if limit == 0 {
			one.Files = true
			if err := s.write(ctx, tx, id, one); err != nil || s.Holds(id) {
				return err
			}
			if taken, err := s.claims.in(ctx, tx, claim{upload, id}); err != nil || taken {
				return err
			}
			return s.busy(id, errBusy)
		}
		err = tx.QueryRowContext(ctx, unused, one.User, 1).Scan(&drop)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			_, err = s.claims.in(ctx, tx, claim{upload, drop})
		}
		return err
	})
	return limit, drop, err
}

// Stale lists the sessions without an access since before that no request has.
func (s *Sessions) Stale(ctx context.Context, before time.Time) ([]string, error) {
	ids, err := database.Column[string](ctx, s.claims.db.Reader(), `SELECT id FROM uploads u WHERE used < ?
		AND NOT EXISTS (SELECT 1 FROM claims c JOIN daemons d ON d.id = c.daemon WHERE c.kind = 'upload' AND c.id = u.id) ORDER BY id`, database.Nanos(before))
	if err != nil {
		return nil, fmt.Errorf("list upload sessions: %w", err)
	}
	return ids, nil
}

// IsStale reports whether a session had no access since before. One that is not known is.
func (s *Sessions) IsStale(ctx context.Context, id string, before time.Time) (bool, error) {
	used, err := database.Exists(ctx, s.claims.db.Reader(), `SELECT 1 FROM uploads WHERE id = ? AND used >= ?`, id, database.Nanos(before))
	return !used, err
}
