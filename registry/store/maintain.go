package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"
)

const (
	// walKept is what the WAL is cut back to after a checkpoint that could reset it. SQLite keeps the file
	// at the largest size that it ever had, which one large run makes gigabytes.
	walKept = 16 << 20

	// walPages is from how many pages on a commit folds the WAL into the database: as many as walKept has room for. Pushes
	// change the same pages again and again, so that a checkpoint for each 1000, SQLite's default, wrote half as much as
	// the commits did.
	walPages = 4000

	// analysisLimit bounds how many rows of an index are looked at for the planner's statistics. More do
	// not change a plan.
	analysisLimit = 400

	// analysisRows is how many rows a table may have to be analyzed. SQLite counts the whole of it, limit or no
	// limit, while writers wait: a twentieth of a second for this many, and seconds for millions. A larger one
	// keeps the statistics that it had when it was no less than a tenth of this, if it had any: of a table
	// without statistics the planner thinks that it is large, and that is true.
	analysisRows = 50_000

	// checkpointPatience is how long a checkpoint waits for the readers that keep it from cutting the WAL back.
	checkpointPatience = 500 * time.Millisecond
)

// Maintain does what a database wants now and then; the daemon calls it on a schedule, while it serves. It
// writes down what was read lately, lets the planner look at what has grown, gives free pages back to the file
// system, checkpoints the WAL and cuts it back, and reserves space again if that was used up.
func (s *Store) Maintain(ctx context.Context) error {
	var errs []error
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"write down what was used", s.saveUses},
		{"finish what was cut short", s.finishAll},
		{"optimize the database", s.optimize},
		{"convert the database", s.convert},
		{"give free pages back", s.shrink},
		{"checkpoint the WAL", s.checkpoint},
		{"reserve space", func(context.Context) error { return s.reserve.fill() }},
	} {
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}

// optimize does what PRAGMA optimize would do, one table at a time.
func (s *Store) optimize(ctx context.Context) error {
	var tables []string
	scan := func(rows *sql.Rows) error {
		var statement string
		err := rows.Scan(&statement)
		if _, table, ok := strings.Cut(statement, `ANALYZE "main".`); ok {
			tables = append(tables, table)
		}
		return err
	}
	// 0x10000: all tables, not those alone that this connection has read; 1: say it, do not do it; 2: ANALYZE.
	if err := query(ctx, s.writer, scan, `PRAGMA optimize = 0x10003`); err != nil {
		return err
	}
	for _, table := range tables {
		large, err := exists(ctx, s.reader, fmt.Sprintf(`SELECT 1 FROM %s LIMIT 1 OFFSET %d`, table, analysisRows))
		if err != nil {
			return err
		}
		if large {
			err = s.forgetStatistics(ctx, table)
		} else {
			_, err = s.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA analysis_limit = %d; ANALYZE main.%s`, analysisLimit, table))
		}
		if err != nil {
			return full(s.database, 0, err)
		}
	}
	return nil
}

// forgetStatistics drops what was found out about a table when it was far smaller.
func (s *Store) forgetStatistics(ctx context.Context, table string) error {
	known, err := exists(ctx, s.writer, `SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'`)
	if err != nil || !known {
		return err
	}
	result, err := s.writer.ExecContext(ctx, `DELETE FROM sqlite_stat1 WHERE tbl = ?`, strings.Trim(table, `"`))
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = s.writer.ExecContext(ctx, `ANALYZE sqlite_schema`) // which only reads the statistics again
	return err
}

// checkpoint folds the WAL into the database. Where it has grown large, it is cut back too, which waits for
// readers that are at work; if they do not come to an end, the next call does it.
func (s *Store) checkpoint(ctx context.Context) error {
	mode := "PASSIVE"
	if info, err := os.Stat(s.database + "-wal"); err == nil && info.Size() > walKept {
		mode = "TRUNCATE"
	}
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	// Writers wait as long as this waits for readers.
	if _, err := conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA busy_timeout = %d`, checkpointPatience.Milliseconds())); err != nil {
		return err
	}
	var busy bool
	var frames, moved int64
	err = conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &frames, &moved)
	_, resetErr := conn.ExecContext(context.WithoutCancel(ctx), fmt.Sprintf(`PRAGMA busy_timeout = %d`, busyTimeout.Milliseconds()))
	if err := errors.Join(err, resetErr); err != nil {
		return full(s.database, 0, err)
	}
	s.log.Debug("checkpointed the WAL", "mode", mode, "busy", busy, "frames", frames, "moved", moved)
	return nil
}
