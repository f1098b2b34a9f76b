package store

import (
	"context"
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Bounds of the feed.
const (
	// changesKept is how many changes are kept for a slow follower, which lists all again when it is
	// further behind.
	changesKept = 1_000_000
	// followerKept is for how long changes are kept for a follower that does not ask: one that does not come back
	// takes no space for ever. It stays registered until it is removed, since it may have taken this appliance's
	// place, and then is to be asked, and to be believed.
	followerKept = 30 * 24 * time.Hour
	// followerSeen bounds how old the time of the last request of a follower may be in its row.
	followerSeen = time.Minute
	// changesPruned is how many rows one transaction deletes, which pushes wait for.
	changesPruned = 5000
	// checksKept is how many positions are good that a follower was given and has not asked with: an answer that
	// is lost on its way leaves one.
	checksKept = 16
	// pendingCounted bounds Pending, which is counted for each request.
	pendingCounted = 100_000
	// MaxChanges is the largest limit of a page, and pageBytes about how many bytes of states end it.
	MaxChanges = 1000
	pageBytes  = 4 << 20
)

// Feed is what this store tells the appliances that follow it: each thing that changed, once, with its
// present state. A page is read in one transaction, and what changes later comes again. So a follower
// that has applied all pages up to one with CaughtUp has exactly the content of that moment.
type Feed struct{ *core }

// Follower is an appliance that follows this one.
type Follower struct {
	ID      string
	Address string // host:port
	CA      string // PEM, "" for the CAs of the system
	Token   string // with which this appliance asks it
	Users   bool   // it gets the accounts
	// Set by the store: when it registered, when it asked last, and how much it does not show, at most pendingCounted:
	// changes, or tags and manifests while it lists all.
	Started, Seen time.Time
	Pending       int
	Relist        bool // it has to list all again
	Listing       bool // it lists all, and does not show that yet
}

// Change is a thing that has changed, with its state when the page was read.
type Change struct {
	Kind, Repository, Name string
	State                  json.RawMessage // nil: it is gone
}

// Page is a part of the feed.
type Page struct {
	Changes []Change
	Next    string // position after it
	// CaughtUp says that the follower knows all when it has applied this page and those before.
	CaughtUp bool
	Pending  int // changes after it, at most pendingCounted
}

// RelistError reports that the changes after a position are not known any more. The follower registers
// again, and gets a list of all.
type RelistError struct{ Reason string }

func (e *RelistError) Error() string { return "the position is not one of the feed: " + e.Reason }

// Hint returns what to do about it.
func (e *RelistError) Hint() string {
	return "register the follower again, without a position: a list of all follows. A daemon that follows does it by itself"
}

// position is how far a follower has read. While it lists, it has the last thing of the list.
//
// Its check is random, and in the row of the follower before the follower gets it. So a database that was put
// back to an earlier state, such as with a snapshot of its host, does not have it, though it gives the same
// numbers to other changes.
type position struct {
	Session string `json:"s"`
	Seq     int64  `json:"q"` // the changes up to it are known
	Listing string `json:"k,omitempty"`
	Repo    string `json:"r,omitempty"`
	Name    string `json:"n,omitempty"`
	Check   string `json:"c,omitempty"` // "": an older version gave it
}

func (p position) String() string {
	text, _ := json.Marshal(p) // which cannot fail
	return base64.RawURLEncoding.EncodeToString(text)
}

func parsePosition(text string) (p position, err error) {
	data, err := base64.RawURLEncoding.DecodeString(text)
	if err == nil {
		err = json.Unmarshal(data, &p)
	}
	if err != nil || p.Session == "" {
		return p, &InvalidError{What: "position", Reason: "it is none that this feed gave"}
	}
	return p, nil
}

// listed are the kinds of a list of all, in its order.
func listed() []string { return []string{kindManifest, kindTag, kindUser, kindCluster, kindNote} }

// The kinds of changes, as the triggers have them.
const (
	kindManifest = "manifest"
	kindBlob     = "blob"
	kindTag      = "tag"
	kindUser     = "user"
	kindCluster  = "cluster"
	kindNote     = "note"
)

// Register adds a follower, or changes its address, CA and token, and returns the position at which it
// reads on: the given one if it is still good, and otherwise the beginning of a list of all.
func (s *Feed) Register(ctx context.Context, f Follower, at string) (next string, err error) {
	if f.ID == "" || f.Address == "" {
		return "", &InvalidError{What: "follower", Reason: "it needs an id and an address"}
	}
	random, err := uuid.NewRandom()
	if err != nil {
		return "", fmt.Errorf("register follower: %w", err)
	}
	now := database.Nanos(s.now())
	err = s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		next = at
		var p position
		var good checks
		var listing bool
		var err error
		if at != "" {
			p, err = parsePosition(at)
		}
		if at != "" && err == nil {
			var had bool
			if had, good, err = checkFollower(ctx, tx, f.ID, p); err == nil && f.Users && !had {
				err = &RelistError{"it was without accounts"}
			}
		}
		session := p.Session
		var gone *RelistError
		if at == "" || errors.As(err, &gone) {
			session, listing, err = random.String(), true, nil
			p = position{Session: session, Listing: listed()[0], Check: rand.Text()}
			good = checks{p.Check}
			if err := tx.QueryRowContext(ctx, `SELECT head FROM feed`).Scan(&p.Seq); err != nil {
				return err
			}
			next = p.String()
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, registerFollower, f.ID, f.Address, f.CA, f.Token, session, f.Users, p.Seq, now, good.String(), listing)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("register follower %s: %w", image.Quote(f.ID), err)
	}
	return next, nil
}

// registerFollower adds a follower, or begins a session of one. What it shows stays as it was within a session.
const registerFollower = `INSERT INTO followers (id, address, ca, token, session, users, since, seen, started, checks, listing)
	VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?8, ?9, ?10)
	ON CONFLICT (id) DO UPDATE SET address = excluded.address, ca = excluded.ca, token = excluded.token, users = excluded.users,
		session = excluded.session, seen = excluded.seen, checks = excluded.checks,
		since = CASE followers.session WHEN excluded.session THEN followers.since ELSE excluded.since END,
		started = CASE followers.session WHEN excluded.session THEN followers.started ELSE excluded.started END,
		listing = CASE followers.session WHEN excluded.session THEN followers.listing ELSE excluded.listing END`

// checkFollower returns a *RelistError unless a follower may read on at a position, whether it gets the
// accounts, and the checks of the positions from that one on.
func checkFollower(ctx context.Context, q database.Querier, id string, p position) (users bool, good checks, err error) {
	var session, given string
	var since, head int64
	err = q.QueryRowContext(ctx, `SELECT f.session, f.since, f.users, f.checks, (SELECT head FROM feed) FROM followers f WHERE f.id = ?`, id).
		Scan(&session, &since, &users, &given, &head)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return false, nil, &RelistError{"the follower is not registered"}
	case err != nil:
		return false, nil, err
	case session == "":
		return false, nil, &RelistError{"the follower was too far behind, or has not asked for too long"}
	case session != p.Session:
		return false, nil, &RelistError{"it is of another registration"}
	case p.Seq < since || p.Seq > head:
		return false, nil, &RelistError{"the changes after it were dropped"}
	}
	good, err = checksOf(given).after(p)
	return users, good, err
}

// checks are those of the positions that a follower may have.
type checks []string

// checksOf reads what String returns. A row of an older version has none, which is the check of its position.
func checksOf(text string) (c checks) {
	if text == "" || json.Unmarshal([]byte(text), &c) != nil {
		return checks{""}
	}
	return c
}

func (c checks) String() string {
	text, _ := json.Marshal(c) // which cannot fail
	return string(text)
}

// after returns those from a position on, or a *RelistError if that is none of them.
func (c checks) after(p position) (checks, error) {
	i := slices.Index(c, p.Check)
	if i < 0 {
		return nil, &RelistError{"the database was put back to a state before it"}
	}
	return c[i:], nil
}

// with adds that of a position that is given now.
func (c checks) with(check string) checks {
	if check == "" {
		return c
	}
	if n := len(c); n > checksKept {
		c = append(c[:1:1], c[n-checksKept+1:]...)
	}
	return append(c[:len(c):len(c)], check)
}

const listFollowers = `SELECT id, address, ca, token, users, started, seen, session = '', listing,
	CASE WHEN session = '' OR listing = 1 THEN (SELECT count(*) FROM (SELECT 1 FROM tags UNION ALL SELECT 1 FROM repository_manifests LIMIT ?1) few)
	ELSE (SELECT count(*) FROM (SELECT 1 FROM changes WHERE seq > f.since LIMIT ?1) few) END FROM followers f ORDER BY address, id`

// List lists the followers.
func (s *Feed) List(ctx context.Context) ([]Follower, error) {
	return s.list(ctx, listFollowers, pendingCounted)
}

// Registered lists the followers without Pending, whose count takes too long for each request of a stranger.
func (s *Feed) Registered(ctx context.Context) ([]Follower, error) {
	return s.list(ctx, `SELECT id, address, ca, token, users, started, seen, session = '', listing, 0 FROM followers ORDER BY address, id`)
}

func (s *Feed) list(ctx context.Context, text string, args ...any) ([]Follower, error) {
	all := []Follower{}
	scan := func(rows *sql.Rows) error {
		var f Follower
		var started, seen int64
		err := rows.Scan(&f.ID, &f.Address, &f.CA, &f.Token, &f.Users, &started, &seen, &f.Relist, &f.Listing, &f.Pending)
		f.Started, f.Seen = database.Time(started), database.Time(seen)
		all = append(all, f)
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, text, args...)
	if err != nil {
		return nil, fmt.Errorf("list followers: %w", err)
	}
	return all, nil
}

// Remove forgets a follower. ErrNotFound.
func (s *Feed) Remove(ctx context.Context, id string) error {
	err := s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		n, err := database.Affected(ctx, tx, `DELETE FROM followers WHERE id = ?`, id)
		if err == nil && n == 0 {
			return &NotFoundError{Kind: "follower", Name: image.Quote(id)}
		}
		return err
	})
	if err != nil {
		return err
	}
	return s.prune(ctx)
}

// confirm records that a follower has saved the changes up to a position, whether it shows them, and that it is given the
// next one, whose check is "" if it is the same. It deletes the changes that all show.
func (s *Feed) confirm(ctx context.Context, id string, p position, shown bool, next string) error {
	now := s.now()
	if next == "" {
		due, err := database.Exists(ctx, s.db.Reader(), `SELECT 1 FROM followers WHERE id = ? AND session = ? AND (? AND (since < ? OR listing = 1) OR seen < ?)`,
			id, p.Session, shown, p.Seq, database.Nanos(now.Add(-followerSeen)))
		if err != nil || !due {
			return err
		}
	}
	return s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		var given string
		err := tx.QueryRowContext(ctx, `SELECT checks FROM followers WHERE id = ? AND session = ?`, id, p.Session).Scan(&given)
		if errors.Is(err, sql.ErrNoRows) {
			return &RelistError{"the follower was removed or registered again meanwhile"}
		}
		var good checks
		if err == nil {
			good, err = checksOf(given).after(p)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE followers SET seen = ?3, checks = ?4 WHERE id = ?1 AND session = ?2`,
				id, p.Session, database.Nanos(now), good.with(next).String())
		}
		if err == nil && shown {
			_, err = tx.ExecContext(ctx, `UPDATE followers SET since = max(since, ?3), listing = 0 WHERE id = ?1 AND session = ?2`, id, p.Session, p.Seq)
		}
		if err == nil && shown {
			_, err = pruneSome(ctx, tx)
		}
		return err
	})
}

// pruneSome deletes changes that no follower needs, and reports whether there may be more.
func pruneSome(ctx context.Context, tx *sql.Tx) (more bool, err error) {
	n, err := database.Affected(ctx, tx, `DELETE FROM changes WHERE seq IN (SELECT seq FROM changes WHERE seq <=
		coalesce((SELECT min(since) FROM followers WHERE session <> ''), (SELECT head FROM feed)) ORDER BY seq LIMIT ?)`, changesPruned)
	return n == changesPruned, err
}

// prune has followers list all again that do not ask or are too far behind, and deletes the changes that no
// follower needs.
func (s *core) prune(ctx context.Context) error {
	err := s.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `UPDATE followers SET session = '' WHERE seen < ? AND session <> ''`, database.Nanos(s.now().Add(-followerKept)))
		if err != nil {
			return err
		}
		var first int64
		err = tx.QueryRowContext(ctx, `SELECT seq FROM changes ORDER BY seq DESC LIMIT 1 OFFSET ?`, s.feed.kept).Scan(&first)
		if errors.Is(err, sql.ErrNoRows) {
			return nil
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE followers SET session = '' WHERE since < ? AND session <> ''`, first)
		}
		return err
	})
	if err == nil {
		err = s.inParts(ctx, s.db.WriteFreeing, func(tx *sql.Tx) (bool, error) { return pruneSome(ctx, tx) })
	}
	if err != nil {
		return fmt.Errorf("delete changes that followers do not need: %w", err)
	}
	return nil
}

// feedSignal wakes the requests of followers that wait for a change.
type feedSignal struct {
	kept    int         // changesKept, except in tests
	pending atomic.Bool // in the transaction under way

	mu   sync.Mutex
	next chan struct{} // closed after the next change; nil: nothing waits
}

// Changed returns a channel that is closed once there is another change.
func (s *Feed) Changed() <-chan struct{} {
	s.feed.mu.Lock()
	defer s.feed.mu.Unlock()
	if s.feed.next == nil {
		s.feed.next = make(chan struct{})
	}
	return s.feed.next
}

// note is called by SQLite for each row that changes, before the commit.
func (f *feedSignal) note(row database.Change) {
	if row.Table == "changes" {
		f.pending.Store(true)
	}
}

// committed is called after each transaction.
func (f *feedSignal) committed() {
	if !f.pending.Load() || !f.pending.Swap(false) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.next != nil {
		close(f.next)
		f.next = nil
	}
}
