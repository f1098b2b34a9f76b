package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/retry"
)

const (
	// autoVacuum is SQLite's incremental mode: deleted pages stay in the file until
	// incremental_vacuum.
	autoVacuum = 2

	// shrinkStep is how many pages one transaction gives back, which pushes wait for: 1 MiB takes
	// some milliseconds.
	shrinkStep = 256

	// slack is how many free pages stay, so that daily deletes and pushes do not move pages.
	slack = 256

	// shrinkAfter is the delay after a write, so that a client that deletes a hundred images does
	// not compete with it each time.
	shrinkAfter = time.Second

	// shrinkAtClose bounds the time in Close: a command that has deleted ends soon after.
	shrinkAtClose = 5 * time.Second

	// vacuumPatience is how long a write waits for the conversion of a database before that is
	// given up.
	vacuumPatience = time.Second
)

// shrinker gives free pages back to the file system in the background, after deletes.
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

// Freed has free pages given back and the reserve filled, in the background, after a delete.
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

// live returns the bytes of a copy of the database, which has no free pages.
func (p pages) live() int64 { return (p.total - p.free) * p.size }

func readPages(ctx context.Context, db *sql.DB) (p pages, err error) {
	err = db.QueryRowContext(ctx, `SELECT page_count, freelist_count, page_size, auto_vacuum
		FROM pragma_page_count, pragma_freelist_count, pragma_page_size, pragma_auto_vacuum`).Scan(&p.total, &p.free, &p.size, &p.vacuum)
	if err != nil {
		return pages{}, fmt.Errorf("count the pages of the database: %w", err)
	}
	return p, nil
}

// Reusable returns the free bytes of the database file, which new rows use. On the same file system
// they are as good as free: they are being given back.
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

// shrink gives free pages back, in small transactions with as long a pause after each, and cuts the
// file.
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
				if _, err := tx.ExecContext(ctx,
					fmt.Sprintf(`PRAGMA incremental_vacuum(%d)`, min(shrinkStep, p.free-slack))); err != nil {
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
	db.log.Debug("gave free pages of the database back", "pages", before.free-p.free, "bytes",
		(before.free-p.free)*p.size)
	return nil
}

// shrinkAtClose gives back the pages of the last deletes, for some seconds.
func (db *DB) shrinkAtClose() {
	if !db.shrinker.freed.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), shrinkAtClose)
	defer cancel()
	db.tryShrink(ctx)
}

// tryShrink shrinks the database and fills the reserve. A failure only costs space.
func (db *DB) tryShrink(ctx context.Context) {
	if err := db.shrink(ctx); err != nil && ctx.Err() == nil {
		db.log.Warn("could not give free pages of the database back", "path", db.path, "error", err)
	}
	db.refill()
}

// convert makes an older database able to give pages back. SQLite writes all of it anew, to a
// temporary file and to the WAL, while no other write runs. So it waits for space for both, and is
// given up as soon as a write has waited for a moment; the next call tries again.
func (db *DB) convert(ctx context.Context) error {
	p, err := readPages(ctx, db.reader)
	if err != nil || p.vacuum == autoVacuum {
		return err
	}
	if db.space.Check(db.path, 2*p.live()) != nil {
		db.log.Info("the database cannot give free pages back yet: there is no space to convert it",
			"path", db.path, "bytes", 2*p.live())
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

// giveWay calls giveUp when a write has been waiting for some time.
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

const (
	reserveSuffix = ".reserve"

	// reserveBytes is the size of the reserve, or a sixteenth of the file system if that is less.
	// It has room for the WAL of the largest deleting transaction.
	reserveBytes = 16 << 20

	// reserveStep is how much is given up at a time: little, since another program that filled the
	// disk may take the rest.
	reserveStep = 256 << 10
)

// reserve is a file beside the database: when the disk is full to the last byte, its space lets a
// transaction delete something else.
type reserve struct {
	path  string
	log   *slog.Logger
	space diskspace.Checker

	mu sync.Mutex // one change of the file at a time
}

// fill creates the file if it does not exist and there is space to spare.
func (r *reserve) fill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, total, err := r.space.Bytes(r.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := min(reserveBytes, total/16)
	if info.Size() >= size || r.space.Check(r.path, size-info.Size()) != nil {
		return nil
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return nil
}

// spend gives up some of the space, and reports whether there was any. It gives up none if all of
// it is less than short, the missing bytes, 0 if unknown.
func (r *reserve) spend(short int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Lstat(r.path)
	return err == nil && info.Size() > 0 && info.Size() >= short &&
		os.Truncate(r.path, max(0, info.Size()-reserveStep)) == nil
}

// Freeing runs a deletion. While the disk is too full for it, it gives up some of the reserve and
// tries again.
func (db *DB) Freeing(do func() error) error {
	for {
		err := do()
		var full *diskspace.FullError
		if !errors.As(err, &full) || !db.reserve.spend(full.Short) {
			return err
		}
		db.log.Warn("the disk is full: gave up reserved space so that images can be deleted", "path", db.reserve.path)
	}
}

// refill fills the reserve again, and logs a failure.
func (db *DB) refill() {
	if err := db.reserve.fill(); err != nil {
		db.log.Warn("could not reserve space for deleting on a full disk", "path", db.reserve.path, "error", err)
	}
}
