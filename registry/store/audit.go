package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// AuditRecord is something that a user did, or was refused.
type AuditRecord struct {
	ID                           int64
	Kind                         string
	At                           time.Time
	Event, User, Remote, Outcome string
	Details                      map[string]string
}

// AuditFilter selects records. The zero value selects all.
type AuditFilter struct {
	Kind, User, Event string // "": any
	Text              string // in any field, in either case of ASCII
	From, To          time.Time
	Before            int64 // an id; 0: from the newest on
}

// auditPart is how many records one transaction removes.
const auditPart = 1000

// Add appends records, in one short transaction. *FullError.
func (s *Audit) Add(ctx context.Context, records []AuditRecord) error {
	if err := s.databaseSpace(0); err != nil {
		return err
	}
	rows := make([][]any, len(records))
	for i, r := range records {
		details, err := plainJSON(r.Details)
		if err != nil {
			return err
		}
		rows[i] = []any{r.Kind, database.Nanos(r.At), r.Event, r.User, r.Remote, r.Outcome, details}
	}
	all, err := plainJSON(rows)
	if err != nil {
		return err
	}
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO audit (kind, at, event, "user", remote, outcome, details)
			SELECT value ->> 0, CAST(value ->> 1 AS BIGINT), value ->> 2, value ->> 3, value ->> 4, value ->> 5, value ->> 6 FROM json_each(?) ORDER BY key`, all)
		return err
	})
	if err != nil {
		return fmt.Errorf("keep %d records of the audit: %w", len(records), err)
	}
	return nil
}

// plainJSON returns JSON in which < and & stand as they are, so that they can be searched for.
func plainJSON(v any) (string, error) {
	var out strings.Builder
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return strings.TrimSpace(out.String()), err
}

// List returns the newest records that a filter selects, at most limit.
func (s *Audit) List(ctx context.Context, f AuditFilter, limit int) ([]AuditRecord, error) {
	if f.Before == 0 {
		f.Before = math.MaxInt64
	}
	if f.To.IsZero() {
		f.To = latest
	}
	all := []AuditRecord{}
	scan := func(rows *sql.Rows) error {
		var r AuditRecord
		var at int64
		var details []byte
		err := rows.Scan(&r.ID, &r.Kind, &at, &r.Event, &r.User, &r.Remote, &r.Outcome, &details)
		if err == nil {
			err = json.Unmarshal(details, &r.Details)
		}
		r.At = database.Time(at)
		all = append(all, r)
		return err
	}
	err := database.Query(ctx, s.db.Reader(), scan, `SELECT id, kind, at, event, "user", remote, outcome, details FROM audit
		WHERE id < ?1 AND at >= ?2 AND at < ?3 AND (?4 = '' OR kind = ?4) AND (?5 = '' OR "user" = ?5) AND (?6 = '' OR event = ?6)
		AND (?7 = '' OR instr(lower(event || ' ' || "user" || ' ' || remote || ' ' || outcome || ' ' || details), lower(?7)) > 0)
		ORDER BY id DESC LIMIT ?8`,
		f.Before, auditTime(f.From), auditTime(f.To), f.Kind, f.User, f.Event, f.Text, limit)
	if err != nil {
		return nil, fmt.Errorf("read the audit: %w", err)
	}
	return all, nil
}

// latest is the last time that the database can have.
var latest = database.Time(math.MaxInt64)

// auditTime is database.Nanos for a time that a user chooses, which may be any.
func auditTime(t time.Time) int64 {
	if t.After(latest) {
		t = latest
	}
	if t.Before(time.Unix(0, 0)) {
		return 0
	}
	return database.Nanos(t)
}

// Trim removes the records of a kind that are older than a time, and the oldest beyond most, and
// returns how many.
func (s *Audit) Trim(ctx context.Context, kind string, most int, before time.Time) (removed int64, err error) {
	last, err := s.lastToTrim(ctx, kind, most, before)
	if err != nil {
		return 0, fmt.Errorf("look for old records of the audit: %w", err)
	}
	for n := int64(auditPart); n == auditPart; removed += n {
		err = s.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) (err error) {
			n, err = database.Affected(ctx, tx, `DELETE FROM audit WHERE id IN
				(SELECT id FROM audit WHERE kind = ? AND id <= ? ORDER BY id LIMIT ?)`, kind, last, auditPart)
			return err
		})
		if err != nil {
			return removed, fmt.Errorf("remove old records of the audit: %w", err)
		}
	}
	return removed, nil
}

// lastToTrim returns the id of the newest record to remove. It is of a record that exists: another may
// be added before the removal.
func (s *Audit) lastToTrim(ctx context.Context, kind string, most int, before time.Time) (last int64, err error) {
	var beyond, young int64
	for _, bound := range []struct {
		id   *int64
		text string
		arg  any
	}{
		{&last, `SELECT id FROM audit WHERE kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?`, 0},
		{&beyond, `SELECT id FROM audit WHERE kind = ? ORDER BY id DESC LIMIT 1 OFFSET ?`, most},
		{&young, `SELECT id FROM audit WHERE kind = ? AND at >= ? ORDER BY id LIMIT 1`, database.Nanos(before)},
	} {
		err := s.db.Reader().QueryRowContext(ctx, bound.text, kind, bound.arg).Scan(bound.id)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return 0, err
		}
	}
	if young == 0 { // all are old
		return last, nil
	}
	return max(beyond, young-1), nil
}
