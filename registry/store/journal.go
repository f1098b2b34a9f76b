package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// A small blob costs no sync of its own. Its bytes are committed with its row, in the transaction that it shares with
// other pushes, and its file is written meanwhile. Files and directories are synced later, those of many blobs
// at once, and only then the bytes leave the database. Until then a power cut may take the file and not the bytes:
// Open writes it again.

const (
	// smallBlob is the size in bytes of the largest blob that is journaled. The bytes of a journaled blob are written
	// three times, to the WAL, the database and the file, which for this many takes less time than a sync.
	smallBlob = blobfile.InMemory

	// flushAfter is how long files wait for others to be synced with, and flushAgain how long they wait after a failure.
	flushAfter = 500 * time.Millisecond
	flushAgain = 10 * time.Second

	// fewFiles is up to how many files are synced one by one. A sync of the file system is cheaper for many, and waits for
	// whatever other programs are writing.
	fewFiles = 32

	// flushBatch is how many rows one transaction removes, which pushes wait for.
	flushBatch = 128

	// journalBlobs and journalBytes are what the journal takes. Beyond that a push syncs its own file: the disk is behind.
	journalBlobs = 4096
	journalBytes = 32 << 20
)

// journal has the rows of blob_journal that are to be flushed. Its goroutine begins with open and ends with close.
type journal struct {
	store *core
	few   int
	sync  func(blobs []digest.Digest, all bool) error // of the files; tests replace it to force failures
	wake  chan struct{}                               // holds one token when there is something to flush
	stop  chan struct{}
	ended chan struct{}
	once  sync.Once

	mu       sync.Mutex // guards what follows
	lastID   int64
	rows     []journaled
	bytes    int64
	failures int // of syncs
}

// journaled is a row of the table.
type journaled struct {
	id     int64
	digest digest.Digest
	size   int64
	// failures counts those that there had been when the file was not written yet. When there were more since, the kernel
	// may have dropped the file's bytes and think that they are on disk: only a new file can be relied on.
	failures int
}

// unknown is the number of failures of a row that an earlier process has left, or whose file could not be written: it is
// to be written again.
const unknown = -1

// openJournal writes the files again that a power cut has taken, and begins to flush.
func (s *core) openJournal(ctx context.Context) error {
	j := &journal{store: s, few: fewFiles, sync: s.files.Sync, wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	scan := func(rows *sql.Rows) error {
		r := journaled{failures: unknown}
		err := rows.Scan(&r.id, &r.digest, &r.size)
		j.addLocked(r)
		j.lastID = max(j.lastID, r.id)
		return err
	}
	if err := sqlite.Query(ctx, s.db.Reader(), scan, `SELECT id, digest, length(body) FROM blob_journal ORDER BY id`); err != nil {
		return fmt.Errorf("read the journal of small blobs: %w", err)
	}
	s.journal = j
	j.flush(ctx)
	go j.run()
	return nil
}

func (j *journal) run() {
	defer close(j.ended)
	wait := func(c <-chan time.Time) bool {
		select {
		case <-c:
			return true
		case <-j.stop:
			return false
		}
	}
	for {
		select {
		case <-j.wake:
		case <-j.stop:
			return
		}
		for pause := flushAfter; pause > 0; {
			if !wait(time.After(pause)) {
				return
			}
			pause = 0
			if !j.flush(context.Background()) {
				pause = flushAgain
			}
		}
	}
}

// close flushes the rest and ends the goroutine. The next Open does what cannot be flushed.
func (j *journal) close() {
	if j == nil {
		return
	}
	j.once.Do(func() {
		close(j.stop)
		<-j.ended
		j.flush(context.Background())
	})
}

// next gives the id for another row and the number of failures so far. ok is false when there is no room.
func (j *journal) next() (id int64, failures int, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastID++
	return j.lastID, j.failures, len(j.rows) < journalBlobs && j.bytes < journalBytes
}

// add takes a row that is committed.
func (j *journal) add(r journaled) {
	j.mu.Lock()
	j.addLocked(r)
	j.mu.Unlock()
	select {
	case j.wake <- struct{}{}:
	default:
	}
}

func (j *journal) addLocked(r journaled) {
	j.rows = append(j.rows, r)
	j.bytes += r.size
}

// pending gives the rows that there are.
func (j *journal) pending() []journaled {
	if j == nil { // the store is not open yet
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rows[:len(j.rows):len(j.rows)]
}

// flush makes the files of all rows durable and removes the rows. It reports whether it succeeded. After a failure the
// rows that are left, and the bytes in the database, keep their blobs as durable as before.
func (j *journal) flush(ctx context.Context) bool {
	rows := j.pending()
	if len(rows) == 0 {
		return true
	}
	err := j.store.rewrite(ctx, j.syncRows(rows))
	for len(rows) > 0 && err == nil {
		n := min(flushBatch, len(rows))
		if err = j.remove(ctx, rows[:n]); err == nil {
			rows = rows[n:]
		}
	}
	if err != nil {
		j.store.log.Warn("could not sync the files of small blobs: their bytes stay in the database until that succeeds",
			"blobs", len(rows), "again_in", flushAgain, "error", err)
	}
	return err == nil
}

// syncRows syncs the files of rows, and gives those that have to be written again.
func (j *journal) syncRows(rows []journaled) (doubtful []journaled) {
	blobs := make([]digest.Digest, len(rows))
	for i, r := range rows {
		blobs[i] = r.digest
	}
	failed := j.sync(blobs, len(rows) > j.few)
	j.mu.Lock()
	defer j.mu.Unlock()
	if failed != nil {
		j.failures++
		j.store.log.Warn("the disk has failed to write small blobs: they are written again", "error", failed)
	}
	for _, r := range rows {
		if r.failures != j.failures {
			doubtful = append(doubtful, r)
		}
	}
	return doubtful
}

// remove removes rows whose files are on disk, the first ones.
func (j *journal) remove(ctx context.Context, rows []journaled) error {
	err := j.store.db.Freeing(func() error {
		return j.store.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
			for _, r := range rows {
				if _, err := tx.ExecContext(ctx, `DELETE FROM blob_journal WHERE id = ?`, r.id); err != nil {
					return fmt.Errorf("remove the bytes of blob %s from the database: %w", r.digest, err)
				}
			}
			return nil
		})
	})
	if err != nil {
		return err
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, r := range rows {
		j.bytes -= r.size
	}
	j.rows = j.rows[len(rows):]
	return nil
}

// keepSmall commits the bytes of a blob with its row and whatever link writes, and writes its file at the same time. It
// says no where the file has to be synced before: there is another, or the journal has no room.
func (s *core) keepSmall(ctx context.Context, body []byte, d digest.Digest, link linkFunc) (kept bool, err error) {
	id, failures, room := s.journal.next()
	if !room {
		return false, nil
	}
	if err := s.guard.Blobs.Enter(ctx, d); err != nil {
		return false, err
	}
	defer s.guard.Blobs.Leave(d)
	if s.files.Blob(d).Exists() {
		return s.keepThere(ctx, body, d, link)
	}
	type file struct {
		made fs.FileInfo
		err  error
	}
	files := make(chan file, 1)
	go func() { // while the disk takes the transaction
		made, err := s.files.Blob(d).Create(body)
		files <- file{made, err}
	}()
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := s.holdRow(ctx, tx, d, int64(len(body))); err != nil {
			return err
		}
		// The driver takes no bytes for NULL.
		if _, err := tx.ExecContext(ctx, `INSERT INTO blob_journal (id, digest, body) VALUES (?, ?, coalesce(?, x''))`, id, d, body); err != nil {
			return fmt.Errorf("write the bytes of blob %s: %w", d, err)
		}
		return link(ctx, tx)
	})
	f := <-files
	if err != nil {
		if f.made != nil {
			err = errors.Join(err, s.takeBack(f.made, d))
		}
		return false, err
	}
	whole := f.err == nil && (f.made != nil || s.files.Blob(d).Has(body))
	if !whole {
		failures = unknown
	}
	s.journal.add(journaled{id: id, digest: d, size: int64(len(body)), failures: failures})
	return whole, diskspace.Full(s.files.Root(), 0, f.err)
}

// keepThere is keepSmall for a blob of which there is a file.
func (s *core) keepThere(ctx context.Context, body []byte, d digest.Digest, link linkFunc) (kept bool, err error) {
	if !s.files.Blob(d).Has(body) {
		return false, nil
	}
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		fresh, err := s.holdRow(ctx, tx, d, int64(len(body)))
		if err != nil {
			return err
		}
		if fresh { // it was made by a push that did not come to an end
			return errNoRow
		}
		return link(ctx, tx)
	})
	if errors.Is(err, errNoRow) {
		return false, nil
	}
	return err == nil, err
}

var errNoRow = errors.New("there is a file that no row speaks for")

// rewrite writes the files of rows again, from their bytes in the database, and durably.
func (s *core) rewrite(ctx context.Context, rows []journaled) error {
	for _, r := range rows {
		if err := s.rewriteOne(ctx, r); err != nil {
			return fmt.Errorf("write blob %s again: %w", r.digest, err)
		}
	}
	return nil
}

func (s *core) rewriteOne(ctx context.Context, r journaled) error {
	if err := s.guard.Blobs.Enter(ctx, r.digest); err != nil {
		return err
	}
	defer s.guard.Blobs.Leave(r.digest)
	var body []byte
	err := s.db.Reader().QueryRowContext(ctx, `SELECT j.body FROM blob_journal j CROSS JOIN blobs b ON b.digest = j.digest WHERE j.id = ?`, r.id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) { // the blob was collected, or is in quarantine
		return nil
	}
	if err != nil {
		return err
	}
	if err := image.CheckDigest(r.digest); err != nil || r.digest.Algorithm().FromBytes(body) != r.digest {
		return s.db.Damaged(errors.Join(err, errors.New("its bytes in the database are others")))
	}
	return s.db.Freeing(func() error { return diskspace.Full(s.files.Root(), 0, s.files.Blob(r.digest).Replace(body)) })
}

// leftOver gives the row of a blob of which there are the bytes in the database, and no more for certain.
func (j *journal) leftOver(d digest.Digest) (r journaled, ok bool) {
	for _, r := range j.pending() {
		if r.failures == unknown && r.digest == d {
			return r, true
		}
	}
	return journaled{}, false
}
