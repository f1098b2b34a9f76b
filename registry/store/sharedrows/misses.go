package sharedrows

import (
	"context"
	"database/sql"
	"encoding/json"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Misses are what clients asked for and did not get, see registry/misses. Times are those of the hosts.
type Misses struct{ db database.Rows }

// Miss is how often a manifest was missed, and when and by which client last.
type Miss struct {
	Repository, Reference string
	Count                 int
	First, Last           time.Time
	User, Address         string
}

// missRows has the columns of misses for a parameter with rows as JSON: one statement writes all.
const missRows = `jsonb_to_recordset(CAST(? AS jsonb)) AS n (repository TEXT, reference TEXT, count BIGINT, first BIGINT, last BIGINT, "user" TEXT, address TEXT)`

func jsonOf(all []Miss) (string, error) {
	rows := make([]map[string]any, len(all))
	for i, m := range all {
		rows[i] = map[string]any{"repository": m.Repository, "reference": m.Reference, "count": m.Count,
			"first": database.Nanos(m.First), "last": database.Nanos(m.Last), "user": m.User, "address": m.Address}
	}
	text, err := json.Marshal(rows)
	return string(text), err
}

// Add adds counts to those that are there. Of all, the latest so many stay; what was missed before the
// list was cleared is left out.
func (m *Misses) Add(ctx context.Context, all []Miss, most int) error {
	rows, err := jsonOf(all)
	if err != nil {
		return err
	}
	return m.db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `INSERT INTO misses AS m (repository, reference, count, first, last, "user", address)
			SELECT n.repository, n.reference, n.count, n.first, n.last, n."user", n.address FROM `+missRows+`
			WHERE n.last > (SELECT at FROM misses_cleared)
			ON CONFLICT (repository, reference) DO UPDATE SET count = m.count + excluded.count,
				first = least(m.first, excluded.first), last = greatest(m.last, excluded.last),
				"user" = CASE WHEN excluded.last >= m.last THEN excluded."user" ELSE m."user" END,
				address = CASE WHEN excluded.last >= m.last THEN excluded.address ELSE m.address END`, rows)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `DELETE FROM misses WHERE (repository, reference) IN
			(SELECT repository, reference FROM misses ORDER BY last DESC, repository, reference OFFSET ?)`, most)
		return err
	})
}

// List returns all.
func (m *Misses) List(ctx context.Context) ([]Miss, error) {
	all := []Miss{}
	err := database.Query(ctx, m.db.Reader(), func(rows *sql.Rows) error {
		var miss Miss
		var first, last int64
		err := rows.Scan(&miss.Repository, &miss.Reference, &miss.Count, &first, &last, &miss.User, &miss.Address)
		miss.First, miss.Last = database.Time(first), database.Time(last)
		all = append(all, miss)
		return err
	}, `SELECT repository, reference, count, first, last, "user", address FROM misses`)
	return all, err
}

// Delete deletes those whose count is as it was listed.
func (m *Misses) Delete(ctx context.Context, all []Miss) error {
	rows, err := jsonOf(all)
	if err != nil {
		return err
	}
	return m.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM misses m USING `+missRows+`
			WHERE m.repository = n.repository AND m.reference = n.reference AND m.count = n.count`, rows)
		return err
	})
}

// Clear deletes all, and has Add leave out what was missed before a time.
func (m *Misses) Clear(ctx context.Context, before time.Time) error {
	return m.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, `DELETE FROM misses`); err != nil {
			return err
		}
		_, err := tx.ExecContext(ctx, `UPDATE misses_cleared SET at = ?`, database.Nanos(before))
		return err
	})
}
