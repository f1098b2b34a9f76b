package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"time"
)

const (
	// autoVacuum is SQLite's incremental mode: a page that is deleted waits on the free list until incremental_vacuum
	// gives it back. The full mode would move pages in the transaction of each delete.
	autoVacuum = 2

	// shrinkStep is how many pages are given back in one transaction, which pushes wait for: 1 MiB takes some milliseconds.
	shrinkStep = 256

	// slack is how many free pages stay in the file, so that what is deleted and pushed all day does not move pages.
	slack = 256

	// shrinkAfter is how long the background waits after a write, so that a client that deletes a hundred images is
	// not competed with for each.
	shrinkAfter = time.Second

	// shrinkAtClose bounds how long Close goes on giving pages back: a command that has deleted ends soon after.
	shrinkAtClose = 5 * time.Second

	// vacuumGivesWay is how long a write waits for the conversion of a database before that is given up.
	vacuumGivesWay = time.Second
)

// shrinker gives the free pages of the database back to the file system in the background, after writes that may
// have freed some. Its goroutine begins with open and ends with close.
type shrinker struct {
	wake  chan struct{} // holds one token when there may be something to give back
	stop  context.CancelFunc
	ended chan struct{}
	once  sync.Once
}

// openShrinker starts the goroutine.
func (s *Store) openShrinker() {
	ctx, stop := context.WithCancel(context.Background())
	s.shrinker = &shrinker{wake: make(chan struct{}, 1), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(s.shrinker.ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-s.shrinker.wake:
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(shrinkAfter):
			}
			s.tryShrink(ctx)
		}
	}()
}

// close ends the goroutine.
func (k *shrinker) close() {
	k.once.Do(k.stop)
	<-k.ended
}

// freed wakes the background, if there is one.
func (k *shrinker) freed() {
	if k == nil {
		return
	}
	select {
	case k.wake <- struct{}{}:
	default:
	}
}

// pages says how the database file is made up.
type pages struct {
	total, free, size int64
	vacuum            int // the mode of auto_vacuum
}

func readPages(ctx context.Context, db *sql.DB) (p pages, err error) {
	err = db.QueryRowContext(ctx, `SELECT page_count, freelist_count, page_size, auto_vacuum
		FROM pragma_page_count, pragma_freelist_count, pragma_page_size, pragma_auto_vacuum`).Scan(&p.total, &p.free, &p.size, &p.vacuum)
	if err != nil {
		return pages{}, fmt.Errorf("count the pages of the database: %w", err)
	}
	return p, nil
}

// reusable is how many bytes of the database file are free, which the next rows use. On the file system of path, if
// that is the one of the database, they are as good as free: they are being given back.
func (s *Store) reusable(path string) int64 {
	if s.reader == nil {
		return 0
	}
	p, err := readPages(context.Background(), s.reader)
	if err != nil || p.free == 0 {
		return 0
	}
	if path != s.database && (p.vacuum != autoVacuum || !sameFileSystem(path, s.database)) {
		return 0
	}
	return p.free * p.size
}

func sameFileSystem(a, b string) bool {
	var x, y syscall.Stat_t
	return syscall.Stat(a, &x) == nil && syscall.Stat(b, &y) == nil && x.Dev == y.Dev
}

// shrink gives free pages back, in small transactions with as long a pause after each, and has the file cut.
func (s *Store) shrink(ctx context.Context) error {
	p, err := readPages(ctx, s.reader)
	if err != nil || p.vacuum != autoVacuum || p.free <= slack {
		return err
	}
	before := p
	for p.free > slack {
		began := time.Now()
		left := p.free
		err := s.freeing(func() error {
			return s.write(ctx, func(tx *sql.Tx) error {
				if _, err := tx.ExecContext(ctx, fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(shrinkStep, p.free-slack))); err != nil {
					return err
				}
				return tx.QueryRowContext(ctx, `PRAGMA freelist_count`).Scan(&p.free)
			})
		})
		if err != nil {
			return err
		}
		if p.free >= left { // writes take and free pages meanwhile: the next call goes on
			break
		}
		if err := pause(ctx, time.Since(began)); err != nil {
			return err
		}
	}
	if err := s.checkpoint(ctx); err != nil { // which cuts the file
		return err
	}
	s.refill()
	s.log.Debug("gave free pages of the database back", "pages", before.free-p.free, "bytes", (before.free-p.free)*p.size)
	return nil
}

// shrinkAtClose gives back what the last writes freed, for some seconds.
func (s *Store) shrinkAtClose() {
	if s.shrinker == nil { // it was not opened
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shrinkAtClose)
	defer cancel()
	s.tryShrink(ctx)
}

// tryShrink is shrink, whose failure costs space and nothing else.
func (s *Store) tryShrink(ctx context.Context) {
	if err := s.shrink(ctx); err != nil && ctx.Err() == nil {
		s.log.Warn("could not give free pages of the database back", "path", s.database, "error", err)
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// convert lets a database that was made without it give pages back from now on. SQLite does so by writing all of it
// anew, once to a temporary file and once to the WAL, and nothing else is written meanwhile. So it waits for a time
// when there is space for both, and is given up as soon as a write has waited for a moment; the next call tries again.
func (s *Store) convert(ctx context.Context) error {
	p, err := readPages(ctx, s.reader)
	if err != nil || p.vacuum == autoVacuum {
		return err
	}
	live := (p.total - p.free) * p.size
	if (space{statfs: s.space.statfs}).check(s.database, 2*live) != nil { // a copy, which free pages are of no use for
		s.log.Info("the database cannot give free pages back yet: there is no space to convert it", "path", s.database, "bytes", 2*live)
		return nil
	}
	conn, err := s.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go s.giveWay(ctx, s.writer.Stats().WaitCount, giveUp)
	_, err = conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA auto_vacuum = %d; VACUUM`, autoVacuum))
	if errors.Is(context.Cause(ctx), errGaveWay) {
		s.log.Info("the conversion of the database gave way to a write", "path", s.database)
		return nil
	}
	return full(s.database, 0, err)
}

var errGaveWay = errors.New("a write is waiting")

// giveWay calls giveUp when a write has been waiting for the writer for some time, one more than had waited before.
func (s *Store) giveWay(ctx context.Context, before int64, giveUp context.CancelCauseFunc) {
	const look = vacuumGivesWay / 10
	for seen := 0; seen < 10; {
		if pause(ctx, look) != nil {
			return
		}
		if s.writer.Stats().WaitCount > before {
			seen++
		}
	}
	giveUp(errGaveWay)
}
