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
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

const (
	// smallBlob is the size of the largest blob in the journal. To write so many bytes three times,
	// to the WAL, the database and the file, takes less time than a sync.
	smallBlob = blobstore.InMemory

	// flushAfter is how long files wait to be synced together, and flushAgain how
	// long after a failure.
	flushAfter = 500 * time.Millisecond
	flushAgain = 10 * time.Second

	// fewFiles is how many files at most are synced one by one. A sync of the file system is
	// cheaper for many, and waits for the writes of other programs.
	fewFiles = 32

	// flushBatch is how many rows one transaction deletes, which pushes wait for.
	flushBatch = 128

	// journalBlobs and journalBytes bound the journal. Beyond, a push syncs its own
	// file: the disk is behind.
	journalBlobs = 4096
	journalBytes = 32 << 20
)

// journal has the rows of blob_journal. A small blob costs no sync of its own: its bytes are
// committed with its row, in a shared transaction, and its file is written meanwhile. Files and
// directories are synced later, those of many blobs at once, and only then the bytes leave the
// database. Until then Open restores a file that a power cut takes.
type journal struct {
	store *core
	few   int
	sync  func(blobs []digest.Digest, all bool) error // tests replace it to force failures
	wake  chan struct{}                               // holds one token when there is something to flush
	stop  context.CancelFunc
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
	// failures counts the failed syncs before the file was written. After a later one
	// the kernel may have dropped the file's bytes and report them as synced: the file
	// has to be written again.
	failures int
}

// unknown is the number of failures of a row that an earlier process left, or whose file could not
// be written: the file has to be written again.
const unknown = -1

// openJournal restores the files that a power cut took, and starts the goroutine that flushes. In a
// storage without files there is no journal.
func (s *core) openJournal(ctx context.Context) error {
	if s.files == nil {
		return nil
	}
	j := &journal{store: s, few: fewFiles, sync: s.files.Sync, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	columns := func(r *journaled) []any { return []any{&r.id, &r.digest, &r.size} }
	rows, err := database.List(ctx, s.db.Reader(), columns,
		`SELECT id, digest, length(body) FROM blob_journal ORDER BY id`)
	if err != nil {
		return fmt.Errorf("read the journal of small blobs: %w", err)
	}
	for _, r := range rows {
		r.failures = unknown
		j.addLocked(r)
		j.lastID = r.id
	}
	s.journal = j
	j.flush(ctx)
	background, stop := context.WithCancel(context.Background())
	j.stop = stop
	go j.run(background)
	return nil
}

func (j *journal) run(ctx context.Context) {
	defer close(j.ended)
	for {
		select {
		case <-j.wake:
		case <-ctx.Done():
			return
		}
		for pause := flushAfter; ; pause = flushAgain {
			if retry.Sleep(ctx, pause) != nil {
				return
			}
			if j.flush(context.Background()) {
				break
			}
		}
	}
}

// close flushes the rest and ends the goroutine. The next Open flushes rows that fail now.
func (j *journal) close() {
	if j == nil {
		return
	}
	j.once.Do(func() {
		j.stop()
		<-j.ended
		j.flush(context.Background())
	})
}

// next returns the id for another row and the number of failures so far. ok is false when the
// journal is full.
func (j *journal) next() (id int64, failures int, ok bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lastID++
	return j.lastID, j.failures, len(j.rows) < journalBlobs && j.bytes < journalBytes
}

// add adds a committed row.
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

// pending returns the rows.
func (j *journal) pending() []journaled {
	if j == nil { // the store is not open yet
		return nil
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.rows[:len(j.rows):len(j.rows)]
}

// flush makes the files of all rows durable and deletes the rows. It reports whether it succeeded.
// After a failure the remaining rows, with their bytes, keep their blobs durable.
func (j *journal) flush(ctx context.Context) bool {
	rows := j.pending()
	if len(rows) == 0 {
		return true
	}
	var err error
	for _, r := range j.syncRows(rows) {
		if err = j.store.rewrite(ctx, r); err != nil {
			break
		}
	}
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

// syncRows syncs the files of rows, and returns those to write again.
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
		j.store.log.Warn("the disk failed to write small blobs: they are written again", "error", failed)
	}
	for _, r := range rows {
		if r.failures != j.failures {
			doubtful = append(doubtful, r)
		}
	}
	return doubtful
}

// remove deletes the first rows, whose files are on disk.
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

// commitSmall commits the bytes of a blob with its row and the links of link, and writes its file
// at the same time. It reports false where the file has to be synced first: another one exists, or
// the journal is full.
func (s *core) commitSmall(ctx context.Context, body []byte, d digest.Digest, link linkFunc) (kept bool, err error) {
	id, failures, room := s.journal.next()
	if !room {
		return false, nil
	}
	put, err := s.guard.Blobs.Put(ctx, d)
	if err != nil {
		return false, err
	}
	defer put.End()
	if s.files.Blob(d).Exists() {
		return s.commitExisting(ctx, body, d, link)
	}
	type file struct {
		made fs.FileInfo
		err  error
	}
	files := make(chan file, 1)
	go func() { // during the transaction
		made, err := s.files.Blob(d).Create(body)
		files <- file{made, err}
	}()
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		if _, err := s.insertBlob(ctx, tx, d, int64(len(body))); err != nil {
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
			err = errors.Join(err, s.undoPlace(ctx, f.made, d))
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

// commitExisting is commitSmall for a blob with a file.
func (s *core) commitExisting(ctx context.Context, body []byte, d digest.Digest, link linkFunc) (kept bool, err error) {
	if !s.files.Blob(d).Has(body) {
		return false, nil
	}
	err = s.db.Share(ctx, func(ctx context.Context, tx *sql.Tx) error {
		fresh, err := s.insertBlob(ctx, tx, d, int64(len(body)))
		if err != nil {
			return err
		}
		if fresh { // an interrupted push left the file
			return errNoRow
		}
		return link(ctx, tx)
	})
	if errors.Is(err, errNoRow) {
		return false, nil
	}
	return err == nil, err
}

var errNoRow = errors.New("there is a file without a row")

// rewrite writes the file of a row again, durably, from its bytes in the database.
func (s *core) rewrite(ctx context.Context, r journaled) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write blob %s again: %w", r.digest, err)
		}
	}()
	put, err := s.guard.Blobs.Put(ctx, r.digest)
	if err != nil {
		return err
	}
	defer put.End()
	var body []byte
	err = s.db.Reader().QueryRowContext(ctx, `SELECT j.body FROM blob_journal j CROSS JOIN blobs b ON b.digest = j.digest WHERE j.id = ?`, r.id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) { // the blob was collected, or is in quarantine
		return nil
	}
	if err != nil {
		return err
	}
	if err := image.CheckDigest(r.digest); err != nil || r.digest.Algorithm().FromBytes(body) != r.digest {
		return s.db.Damaged(errors.Join(err, errors.New("its bytes in the database have another digest")))
	}
	return s.db.Freeing(func() error { return diskspace.Full(s.files.Root(), 0, s.files.Blob(r.digest).Replace(body)) })
}

// leftOver returns the row of a blob whose file may be missing.
func (j *journal) leftOver(d digest.Digest) (r journaled, ok bool) {
	for _, r := range j.pending() {
		if r.failures == unknown && r.digest == d {
			return r, true
		}
	}
	return journaled{}, false
}
