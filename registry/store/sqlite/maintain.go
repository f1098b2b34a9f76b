package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// walKept is what the WAL is cut back to after a checkpoint that could reset it. SQLite keeps the file at the largest
	// size that it ever had, which one large run makes gigabytes.
	walKept = 16 << 20

	// walPages is from how many pages on a commit checkpoints the WAL: as many as walKept has room for. Pushes change the
	// same pages again and again, so that a checkpoint for each 1000, SQLite's default, wrote half as much as the commits.
	walPages = 4000

	// analysisLimit bounds how many rows of an index are read for the planner's statistics. More do not change a plan.
	analysisLimit = 400

	// analysisRows is how many rows a table may have to be analyzed. SQLite counts all of it, limit or no limit, while
	// writers wait: a twentieth of a second for this many, and seconds for millions. A larger table keeps the statistics
	// that it had when it had no less than a tenth of this. Without statistics the planner takes a table for large, which
	// is true.
	analysisRows = 50_000

	// checkpointPatience is how long a checkpoint waits for the readers that keep it from cutting the WAL back.
	checkpointPatience = 500 * time.Millisecond
)

// Maintain lets the planner look at what has grown, gives free pages back to the file system, checkpoints the WAL and
// cuts it back, and reserves space again. It is called on a schedule, while the database is in use.
func (db *DB) Maintain(ctx context.Context) error {
	var errs []error
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"optimize the database", db.optimize},
		{"convert the database", db.convert},
		{"give free pages back", db.shrink},
		{"checkpoint the WAL", db.checkpoint},
		{"reserve space", func(context.Context) error { return db.reserve.fill() }},
	} {
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}

// optimize does what PRAGMA optimize would do, one table at a time.
func (db *DB) optimize(ctx context.Context) error {
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
	if err := Query(ctx, db.writer, scan, `PRAGMA optimize = 0x10003`); err != nil {
		return err
	}
	for _, table := range tables {
		large, err := Exists(ctx, db.reader, fmt.Sprintf(`SELECT 1 FROM %s LIMIT 1 OFFSET %d`, table, analysisRows))
		if err != nil {
			return err
		}
		if large {
			err = db.forgetStatistics(ctx, table)
		} else {
			_, err = db.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA analysis_limit = %d; ANALYZE main.%s`, analysisLimit, table))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetStatistics drops the statistics that a table had when it was far smaller.
func (db *DB) forgetStatistics(ctx context.Context, table string) error {
	known, err := Exists(ctx, db.writer, `SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'`)
	if err != nil || !known {
		return err
	}
	result, err := db.writer.ExecContext(ctx, `DELETE FROM sqlite_stat1 WHERE tbl = ?`, strings.Trim(table, `"`))
	if err != nil {
		return err
	}
	if n, err := result.RowsAffected(); err != nil || n == 0 {
		return err
	}
	_, err = db.writer.ExecContext(ctx, `ANALYZE sqlite_schema`) // which only reads the statistics again
	return err
}

// checkpoint moves the WAL into the database. Where it has grown large, it is cut back too, which waits for readers; if
// they do not end, the next call does it.
func (db *DB) checkpoint(ctx context.Context) error {
	mode := "PASSIVE"
	if _, wal := db.Bytes(); wal > walKept {
		mode = "TRUNCATE"
	}
	conn, err := db.writer.Conn(ctx)
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
		return err
	}
	db.log.Debug("checkpointed the WAL", "mode", mode, "busy", busy, "frames", frames, "moved", moved)
	return nil
}

// Flush moves everything into the database file itself, which alone is put in place after a restore. SQLite does so
// when the last connection is closed, and does not say whether it could.
func (db *DB) Flush(ctx context.Context) error {
	var busy bool
	var frames, moved int64
	err := db.writer.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
	if err == nil && busy {
		err = errors.New("another connection is reading the database")
	}
	return err
}
