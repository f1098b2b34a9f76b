package sharedrows

import (
	"context"
	"database/sql"
	"errors"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

// Hostname is the name that clients reach the registry by. The daemons that run have the same.
type Hostname struct{ db database.Rows }

// Claim records the hostname of a daemon, which is the row of that id in daemons. If daemons with another
// one run, it returns that and where one of them is, and records nothing.
func (h *Hostname) Claim(ctx context.Context, daemon, hostname string) (other, at string, err error) {
	err = h.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		other, at = "", ""
		var now string
		err := tx.QueryRowContext(ctx, `SELECT hostname FROM registry_hostname`).Scan(&now)
		if err != nil && !errors.Is(err, sql.ErrNoRows) || now == hostname {
			return err
		}
		if err == nil {
			running := tx.QueryRowContext(ctx, `SELECT name FROM daemons WHERE id <> ? ORDER BY started LIMIT 1`, daemon).Scan(&at)
			if running == nil {
				other = now
			}
			if !errors.Is(running, sql.ErrNoRows) {
				return running
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO registry_hostname (one, hostname) VALUES (1, ?)
			ON CONFLICT (one) DO UPDATE SET hostname = excluded.hostname`, hostname)
		return err
	})
	return other, at, err
}
