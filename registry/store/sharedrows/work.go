package sharedrows

import (
	"context"
	"database/sql"
	"errors"
	"time"

	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// workSilent is how long a daemon that works may say nothing before others take it for one that has ended.
	workSilent = 15 * time.Second
	// workKept is how long a result is kept.
	workKept = 7 * 24 * time.Hour
)

// Work is what daemons do on request, by its name: how far it is while one does it, and the last result. The texts are
// the callers'.
type Work struct{ db database.Rows }

// Doing is work under way.
type Doing struct {
	Host, Run, Progress string
}

// Seen is what the row of a kind of work has.
type Seen struct {
	Doing *Doing // nil: nothing is under way
	// Interrupted is work of a daemon that has neither ended it nor told anything for a while; nil: none. Told is when it
	// did last.
	Interrupted *Doing
	Told        time.Time

	Result string // "" also for the one that is known
	Ended  int64  // when the result was written; 0: there never was one
}

// Tell writes how far a run is. It reports whether the run is to end.
func (w *Work) Tell(ctx context.Context, name string, d Doing) (stop bool, err error) {
	err = w.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		return tx.QueryRowContext(ctx, `INSERT INTO work AS w (name, host, run, progress, told) VALUES (?, ?, ?, ?, appliance_now())
			ON CONFLICT (name) DO UPDATE SET host = excluded.host, run = excluded.run, progress = excluded.progress, told = excluded.told,
				stop = CASE WHEN w.run = excluded.run THEN w.stop ELSE 0 END
			RETURNING stop = 1`, name, d.Host, d.Run, d.Progress).Scan(&stop)
	})
	return stop && err == nil, err
}

// End writes that a run has ended.
func (w *Work) End(ctx context.Context, name, run string) error {
	return w.exec(ctx, `UPDATE work SET progress = NULL, stop = 0 WHERE name = ? AND run = ?`, name, run)
}

// Keep writes a result, in the place of the one before; "" for none.
func (w *Work) Keep(ctx context.Context, name, host, result string) error {
	return w.exec(ctx, `INSERT INTO work (name, host, run, told, result, ended) VALUES (?, ?, '', appliance_now(), nullif(?, ''), appliance_now())
		ON CONFLICT (name) DO UPDATE SET result = excluded.result, ended = greatest(work.ended + 1, excluded.ended)`, name, host, result)
}

// Get returns what there is of some work. The result that was written at known is left out.
func (w *Work) Get(ctx context.Context, name string, known int64) (Seen, error) {
	var d Doing
	var progress, text sql.NullString
	var alive bool
	var s Seen
	var told int64
	err := w.db.Reader().QueryRowContext(ctx, `SELECT host, run, progress, told, told > appliance_now() - ?1, CASE WHEN ended <> ?2 THEN result END, ended FROM work WHERE name = ?3`,
		workSilent.Nanoseconds(), known, name).Scan(&d.Host, &d.Run, &progress, &told, &alive, &text, &s.Ended)
	if errors.Is(err, sql.ErrNoRows) {
		return Seen{}, nil
	}
	s.Result, s.Told, d.Progress = text.String, time.Unix(0, told).UTC(), progress.String
	switch {
	case progress.Valid && alive:
		s.Doing = &d
	case progress.Valid:
		s.Interrupted = &d
	}
	return s, err
}

// Stop asks for the end of the run under way, and reports whether there is one.
func (w *Work) Stop(ctx context.Context, name string) (running bool, err error) {
	err = w.db.WriteFreeing(ctx, func(tx *sql.Tx) error {
		n, err := database.Affected(ctx, tx, `UPDATE work SET stop = 1 WHERE name = ? AND progress IS NOT NULL AND told > appliance_now() - ?`, name, workSilent.Nanoseconds())
		running = n > 0
		return err
	})
	return running && err == nil, err
}

// Sweep removes what is older than a week.
func (w *Work) Sweep(ctx context.Context) error {
	return w.exec(ctx, `DELETE FROM work WHERE greatest(told, ended) < appliance_now() - ?`, workKept.Nanoseconds())
}

// exec runs a statement that must work on a full disk.
func (w *Work) exec(ctx context.Context, text string, args ...any) error {
	return w.db.ShareFreeing(ctx, func(ctx context.Context, tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, text, args...)
		return err
	})
}
