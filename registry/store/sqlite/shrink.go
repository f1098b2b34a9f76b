package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/retry"
)

const (
	// autoVacuum is SQLite's incremental mode: a page that is deleted waits on the free list until incremental_vacuum
	// gives it back.
	autoVacuum = 2

	// shrinkStep is how many pages are given back in one transaction, which pushes wait for: 1 MiB takes some milliseconds.
	shrinkStep = 256

	// slack is how many free pages stay in the file, so that what is deleted and pushed all day does not move pages.
	slack = 256

	// shrinkAfter is how long the background waits after a write, so that a client that deletes a hundred images is not
	// competed with for each.
	shrinkAfter = time.Second

	// shrinkAtClose bounds how long Close goes on giving pages back: a command that has deleted ends soon after.
	shrinkAtClose = 5 * time.Second

	// vacuumPatience is how long a write waits for the conversion of a database before that is given up.
	vacuumPatience = time.Second
)

// shrinker gives the free pages of the database back to the file system in the background, after writes that may have
// freed some.
type shrinker struct {
	wake  chan struct{} // holds one token when there may be something to give back
	stop  context.CancelFunc
	ended chan struct{}
	once  sync.Once
	freed atomic.Bool // something, since Open
}

// openShrinker starts the goroutine, which close ends.
func (db *DB) openShrinker() {
	ctx, stop := context.WithCancel(context.Background())
	db.shrinker = &shrinker{wake: make(chan struct{}, 1), stop: stop, ended: make(chan struct{})}
	go func() {
		defer close(db.shrinker.ended)
		for {
			select {
			case <-ctx.Done():
				return
			case <-db.shrinker.wake:
			}
			if retry.Sleep(ctx, shrinkAfter) != nil {
				return
			}
			db.tryShrink(ctx)
		}
	}()
}

func (k *shrinker) close() {
	k.once.Do(k.stop)
	<-k.ended
}

// Freed says that rows or files were deleted: free pages are given back, and the reserve is filled, in the background.
func (db *DB) Freed() {
	db.shrinker.freed.Store(true)
	select {
	case db.shrinker.wake <- struct{}{}:
	default:
	}
}

// pages counts the pages of the database file.
type pages struct {
	total, free, size int64
	vacuum            int // the mode of auto_vacuum
}

// live is how many bytes a copy of the database has, which has no free pages.
func (p pages) live() int64 { return (p.total - p.free) * p.size }

func readPages(ctx context.Context, db *sql.DB) (p pages, err error) {
	err = db.QueryRowContext(ctx, `SELECT page_count, freelist_count, page_size, auto_vacuum
		FROM pragma_page_count, pragma_freelist_count, pragma_page_size, pragma_auto_vacuum`).Scan(&p.total, &p.free, &p.size, &p.vacuum)
	if err != nil {
		return pages{}, fmt.Errorf("count the pages of the database: %w", err)
	}
	return p, nil
}

// Reusable returns how many bytes of the database file are free, which the next rows use. On the file system of path, if
// that is the one of the database, they are as good as free: they are being given back.
func (db *DB) Reusable(path string) int64 {
	p, err := readPages(context.Background(), db.reader)
	if err != nil || p.free == 0 {
		return 0
	}
	if same, err := diskspace.Same(path, db.path); path != db.path && (p.vacuum != autoVacuum || !same || err != nil) {
		return 0
	}
	return p.free * p.size
}

// shrink gives free pages back, in small transactions with as long a pause after each, and has the file cut.
func (db *DB) shrink(ctx context.Context) error {
	p, err := readPages(ctx, db.reader)
	if err != nil || p.vacuum != autoVacuum || p.free <= slack {
		return err
	}
	before := p
	for p.free > slack {
		began := time.Now()
		left := p.free
		err := db.Freeing(func() error {
			return db.Write(ctx, func(tx *sql.Tx) error {
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
		if err := retry.Sleep(ctx, time.Since(began)); err != nil {
			return err
		}
	}
	if err := db.checkpoint(ctx); err != nil { // which cuts the file
		return err
	}
	db.log.Debug("gave free pages of the database back", "pages", before.free-p.free, "bytes", (before.free-p.free)*p.size)
	return nil
}

// shrinkAtClose gives back what the last writes freed, for some seconds.
func (db *DB) shrinkAtClose() {
	if !db.shrinker.freed.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shrinkAtClose)
	defer cancel()
	db.tryShrink(ctx)
}

// tryShrink shrinks the database and fills the reserve. A failure costs space and nothing else.
func (db *DB) tryShrink(ctx context.Context) {
	if err := db.shrink(ctx); err != nil && ctx.Err() == nil {
		db.log.Warn("could not give free pages of the database back", "path", db.path, "error", err)
	}
	db.refill()
}

// convert lets a database that was made without it give pages back from now on. SQLite writes all of it anew, once to a
// temporary file and once to the WAL, while nothing else is written. So it waits until there is space for both, and is
// given up as soon as a write has waited for a moment; the next call tries again.
func (db *DB) convert(ctx context.Context) error {
	p, err := readPages(ctx, db.reader)
	if err != nil || p.vacuum == autoVacuum {
		return err
	}
	if db.space.Check(db.path, 2*p.live()) != nil {
		db.log.Info("the database cannot give free pages back yet: there is no space to convert it", "path", db.path, "bytes", 2*p.live())
		return nil
	}
	conn, err := db.writer.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go db.giveWay(ctx, db.writer.Stats().WaitCount, giveUp)
	_, err = conn.ExecContext(ctx, fmt.Sprintf(`PRAGMA auto_vacuum = %d; VACUUM`, autoVacuum))
	if errors.Is(context.Cause(ctx), errGaveWay) {
		db.log.Info("the conversion of the database gave way to a write", "path", db.path)
		return nil
	}
	return err
}

var errGaveWay = errors.New("a write is waiting")

// giveWay calls giveUp when a write has been waiting for the writer for some time, one more than had waited before.
func (db *DB) giveWay(ctx context.Context, before int64, giveUp context.CancelCauseFunc) {
	const look = vacuumPatience / 10
	for seen := 0; seen < 10; {
		if retry.Sleep(ctx, look) != nil {
			return
		}
		if db.writer.Stats().WaitCount > before {
			seen++
		}
	}
	giveUp(errGaveWay)
}
