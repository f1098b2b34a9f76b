package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

const (
	// walKept is what the WAL is cut back to after a checkpoint that could reset it. SQLite keeps the file
	// at the largest size that it ever had, which one large run makes gigabytes.
	walKept = 16 << 20

	// analysisLimit bounds how many rows of an index are looked at for the planner's statistics. More do
	// not change a plan, and all of a million would hold writers up.
	analysisLimit = 400

	// checkpointPatience is how long a checkpoint waits for the readers that keep it from cutting the WAL back.
	checkpointPatience = 500 * time.Millisecond
)

// Maintain does what a database wants now and then; the daemon calls it on a schedule, while it serves. It
// writes down what was read lately, lets the planner look at what has grown, folds the WAL into the
// database and cuts it back, and reserves space again if that was used up.
func (s *Store) Maintain(ctx context.Context) error {
	var errs []error
	for _, step := range []struct {
		what string
		do   func(context.Context) error
	}{
		{"write down what was used", s.saveUses},
		{"optimize the database", s.optimize},
		{"checkpoint the WAL", s.checkpoint},
		{"reserve space", func(context.Context) error { return s.reserve.fill() }},
	} {
		if err := step.do(ctx); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", step.what, err))
		}
	}
	return errors.Join(errs...)
}

func (s *Store) optimize(ctx context.Context) error {
	_, err := s.writer.ExecContext(ctx, fmt.Sprintf(`PRAGMA analysis_limit = %d; PRAGMA optimize = 0x10002`, analysisLimit))
	return full(s.database, 0, err)
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
