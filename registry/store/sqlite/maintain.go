package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// walKept is the size to which the WAL is cut after a checkpoint that could reset it. SQLite
	// keeps its largest size, which one large run makes gigabytes.
	walKept = 16 << 20

	// walPages is the size in pages at which a commit checkpoints the WAL, within walKept. Pushes
	// change the same pages again and again: with SQLite's default of 1000, checkpoints wrote half
	// as much as the commits.
	walPages = 4000

	// analysisLimit bounds the rows of an index that ANALYZE reads. More do not change a plan.
	analysisLimit = 400

	// analysisRows bounds the rows of a table that is analyzed. SQLite counts all of it, while
	// writers wait: a twentieth of a second for this many, and seconds for millions. A larger table
	// keeps statistics that are at least a tenth of this. Without any, the planner takes a table
	// for large, which is true.
	analysisRows = 50_000

	// checkpointPatience is how long a checkpoint waits for readers.
	checkpointPatience = 500 * time.Millisecond
)

// Maintain updates the planner's statistics, gives free pages back to the file system, checkpoints
// the WAL and reserves space. It is called on a schedule, while the database is in use.
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
	// 0x10000: all tables, not those alone that this connection has read; 1: say it, do
	// not do it; 2: ANALYZE.
	if err := database.Query(ctx, db.writer, scan, `PRAGMA optimize = 0x10003`); err != nil {
		return err
	}
	for _, table := range tables {
		large, err := database.Exists(ctx, db.reader, fmt.Sprintf(`SELECT 1 FROM %s LIMIT 1 OFFSET %d`, table, analysisRows))
		if err != nil {
			return err
		}
		if large {
			err = db.forgetStatistics(ctx, table)
		} else {
			_, err = db.writer.ExecContext(ctx,
				fmt.Sprintf(`PRAGMA analysis_limit = %d; ANALYZE main.%s`, analysisLimit, table))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetStatistics deletes the statistics of a table from when it was far smaller.
func (db *DB) forgetStatistics(ctx context.Context, table string) error {
	known, err := database.Exists(ctx, db.writer, `SELECT 1 FROM sqlite_schema WHERE name = 'sqlite_stat1'`)
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

// checkpoint moves the WAL into the database. It also cuts a large one, which waits for readers, or
// is left to the next call.
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
	if _, err := conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA busy_timeout = %d`,
		checkpointPatience.Milliseconds())); err != nil {
		return err
	}
	var busy bool
	var frames, moved int64
	err = conn.QueryRowContext(ctx, `PRAGMA wal_checkpoint(`+mode+`)`).Scan(&busy, &frames, &moved)
	_, resetErr := conn.ExecContext(context.WithoutCancel(ctx),
		fmt.Sprintf(`PRAGMA busy_timeout = %d`, busyTimeout.Milliseconds()))
	if err := errors.Join(err, resetErr); err != nil {
		return err
	}
	db.log.Debug("checkpointed the WAL", "mode", mode, "busy", busy, "frames", frames, "moved", moved)
	return nil
}

// Flush moves the WAL into the database file, which alone is put in place after a restore. SQLite
// does so when the last connection is closed, and does not report a failure.
func (db *DB) Flush(ctx context.Context) error {
	var busy bool
	var frames, moved int64
	err := db.writer.QueryRowContext(ctx, `PRAGMA wal_checkpoint(TRUNCATE)`).Scan(&busy, &frames, &moved)
	if err == nil && busy {
		err = errors.New("another connection is reading the database")
	}
	return err
}
