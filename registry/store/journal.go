package store

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
)

// A small blob costs no sync of its own. Its bytes are committed with its row, in the transaction that it shares with
// other pushes, and its file is written meanwhile. Files and directories are synced later, those of many blobs
// at once, and only then the bytes leave the database. Until then a power cut may take the file and not the bytes:
// Open writes it again.

const (
	// smallBlob is the size in bytes of the largest blob that is journaled. The bytes of a journaled blob are written
	// three times, to the WAL, the database and the file, which for this many takes less time than a sync.
	smallBlob = 64 << 10

	// settleAfter is how long files wait for others to be synced with, and settleAgain how long they wait after a failure.
	settleAfter = 500 * time.Millisecond
	settleAgain = 10 * time.Second

	// fewFiles is up to how many files are synced one by one. A sync of the file system is cheaper for many, and waits for
	// whatever other programs are writing.
	fewFiles = 32

	// settleBatch is how many rows one transaction removes, which pushes wait for.
	settleBatch = 128

	// journalBlobs and journalBytes are what the journal takes. Beyond that a push syncs its own file: the disk is behind.
	journalBlobs = 4096
	journalBytes = 32 << 20
)

// journal is what of the table blob_journal has to be settled. Its goroutine begins with open and ends with close.
type journal struct {
	store *Store
	few   int
	root  *os.File      // of the storage; open all the time, so that a sync tells of every failure to write a file of its file system
	wake  chan struct{} // holds one token when there is something to settle
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

// openJournal writes the files again that a power cut has taken, and begins to settle.
func (s *Store) openJournal(ctx context.Context) error {
	root, err := os.Open(s.files.root)
	if err != nil {
		return fmt.Errorf("open storage: %w", err)
	}
	j := &journal{store: s, few: fewFiles, root: root, wake: make(chan struct{}, 1), stop: make(chan struct{}), ended: make(chan struct{})}
	scan := func(rows *sql.Rows) error {
		r := journaled{failures: unknown}
		err := rows.Scan(&r.id, &r.digest, &r.size)
		j.addLocked(r)
		j.lastID = max(j.lastID, r.id)
		return err
	}
	if err := query(ctx, s.reader, scan, `SELECT id, digest, length(body) FROM blob_journal ORDER BY id`); err != nil {
		return errors.Join(fmt.Errorf("read the journal of small blobs: %w", err), root.Close())
	}
	s.journal = j
	j.settle(ctx)
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
		for pause := settleAfter; pause > 0; {
			if !wait(time.After(pause)) {
				return
			}
			pause = 0
			if !j.settle(context.Background()) {
				pause = settleAgain
			}
		}
	}
}

// close settles what is left and ends the goroutine. What cannot be settled is left to the next Open.
func (j *journal) close() error {
	if j == nil {
		return nil
	}
	var err error
	j.once.Do(func() {
		close(j.stop)
		<-j.ended
		j.settle(context.Background())
		err = j.root.Close()
	})
	return err
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

// settle makes the files of all rows durable and removes the rows. It reports whether it succeeded. After a failure the
// rows that are left, and the bytes in the database, keep their blobs as durable as before.
func (j *journal) settle(ctx context.Context) bool {
	rows := j.pending()
	if len(rows) == 0 {
		return true
	}
	err := j.store.rewrite(ctx, j.sync(rows))
	for len(rows) > 0 && err == nil {
		n := min(settleBatch, len(rows))
		if err = j.remove(ctx, rows[:n]); err == nil {
			rows = rows[n:]
		}
	}
	if err != nil {
		j.store.log.Warn("could not sync the files of small blobs: their bytes stay in the database until that succeeds",
			"blobs", len(rows), "again_in", settleAgain, "error", err)
	}
	return err == nil
}

// sync syncs the files of rows, and gives those that have to be written again.
func (j *journal) sync(rows []journaled) (doubtful []journaled) {
	var failed error
	if len(rows) <= j.few {
		failed = j.store.files.syncEach(rows)
	} else {
		failed = j.syncAll(rows)
	}
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

// syncAll syncs the file system: once for all files and the directories that name them, where a sync of each would have
// the disk empty its cache as often. Linux before 5.8 does not tell from that what failed, but does so for each file.
func (j *journal) syncAll(rows []journaled) error {
	failed := unix.Syncfs(int(j.root.Fd()))
	const wait = unix.SYNC_FILE_RANGE_WAIT_BEFORE | unix.SYNC_FILE_RANGE_WRITE | unix.SYNC_FILE_RANGE_WAIT_AFTER
	for _, r := range rows {
		failed = errors.Join(failed, j.store.files.withFile(r.digest, func(file *os.File) error {
			err := unix.SyncFileRange(int(file.Fd()), 0, 0, wait)
			if err != nil { // also on a file system that cannot do this
				err = file.Sync()
			}
			return err
		}))
	}
	return failed
}

// syncEach syncs files and the directories that name them, and nothing of what other programs write.
func (f *files) syncEach(rows []journaled) error {
	var errs []error
	dirs := map[string]bool{}
	for _, r := range rows {
		errs = append(errs, f.withFile(r.digest, func(file *os.File) error {
			dirs[filepath.Dir(file.Name())] = true
			return file.Sync()
		}))
	}
	for dir := range dirs {
		errs = append(errs, f.ensureDir(dir), durable.SyncDir(dir))
	}
	return errors.Join(errs...)
}

// withFile opens the file of a blob to be read. One that is gone was collected, or is damage that its readers find, and so
// is what is no file.
func (f *files) withFile(d digest.Digest, do func(*os.File) error) error {
	file, err := f.openRegular(d)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, errNotFile) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(do(file), file.Close())
}

// has reports whether the file of a blob has these bytes.
func (f *files) has(d digest.Digest, body []byte) bool {
	same := false
	err := f.withFile(d, func(file *os.File) error {
		there := make([]byte, len(body)+1)
		n, err := io.ReadFull(file, there)
		same = (errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)) && bytes.Equal(there[:n], body)
		return nil
	})
	return err == nil && same
}

// openRegular opens the file of a blob if it is one: the opening of a FIFO would wait for ever.
func (f *files) openRegular(d digest.Digest) (*os.File, error) {
	file, err := os.OpenFile(f.blob(d), os.O_RDONLY|unix.O_NONBLOCK|unix.O_NOFOLLOW, 0)
	if errors.Is(err, unix.ELOOP) {
		return nil, errNotFile
	}
	if err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errNotFile
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// remove removes rows whose files are on disk, the first ones.
func (j *journal) remove(ctx context.Context, rows []journaled) error {
	err := j.store.freeing(func() error {
		return j.store.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
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
func (s *Store) keepSmall(ctx context.Context, body []byte, d digest.Digest, link linkFunc) (kept bool, err error) {
	id, failures, room := s.journal.next()
	if !room {
		return false, nil
	}
	if err := s.guard.enter(ctx, d); err != nil {
		return false, err
	}
	defer s.guard.leave(d)
	if _, err := os.Lstat(s.files.blob(d)); err == nil {
		return s.keepThere(ctx, body, d, link)
	}
	type file struct {
		made fs.FileInfo
		err  error
	}
	files := make(chan file, 1)
	go func() { // while the disk takes the transaction
		made, err := s.files.create(d, body)
		files <- file{made, err}
	}()
	err = s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
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
	whole := f.err == nil && (f.made != nil || s.files.has(d, body))
	if !whole {
		failures = unknown
	}
	s.journal.add(journaled{id: id, digest: d, size: int64(len(body)), failures: failures})
	return whole, full(s.files.root, 0, f.err)
}

// keepThere is keepSmall for a blob of which there is a file.
func (s *Store) keepThere(ctx context.Context, body []byte, d digest.Digest, link linkFunc) (kept bool, err error) {
	if !s.files.has(d, body) {
		return false, nil
	}
	err = s.share(ctx, func(ctx context.Context, tx *sql.Tx) error {
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
func (s *Store) rewrite(ctx context.Context, rows []journaled) error {
	for _, r := range rows {
		if err := s.rewriteOne(ctx, r); err != nil {
			return fmt.Errorf("write blob %s again: %w", r.digest, err)
		}
	}
	return nil
}

func (s *Store) rewriteOne(ctx context.Context, r journaled) error {
	if err := s.guard.enter(ctx, r.digest); err != nil {
		return err
	}
	defer s.guard.leave(r.digest)
	var body []byte
	err := s.reader.QueryRowContext(ctx, `SELECT j.body FROM blob_journal j CROSS JOIN blobs b ON b.digest = j.digest WHERE j.id = ?`, r.id).Scan(&body)
	if errors.Is(err, sql.ErrNoRows) { // the blob was collected, or is in quarantine
		return nil
	}
	if err != nil {
		return err
	}
	if err := image.CheckDigest(r.digest); err != nil || r.digest.Algorithm().FromBytes(body) != r.digest {
		return s.damage.found(errors.Join(err, errors.New("its bytes in the database are others")))
	}
	return s.freeing(func() error { return full(s.files.root, 0, s.files.replace(r.digest, body)) })
}

// mend writes the file of a blob again if that should have been done before and could not, for want of space. It says
// whether that is so.
func (s *Store) mend(ctx context.Context, d digest.Digest) (mended bool, err error) {
	r, ok := s.journal.leftOver(d)
	if !ok {
		return false, nil
	}
	return true, s.rewrite(ctx, []journaled{r})
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

// create writes the file of a blob, unless there is one: then it returns nil. It syncs nothing. With an error it gives
// the file that it has made, if it has.
func (f *files) create(d digest.Digest, body []byte) (made fs.FileInfo, err error) {
	path := f.blob(d)
	const flags = os.O_WRONLY | os.O_CREATE | os.O_EXCL
	file, err := os.OpenFile(path, flags, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		if err := os.Mkdir(filepath.Dir(path), 0o750); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("make blob directory: %w", err)
		}
		file, err = os.OpenFile(path, flags, 0o600)
	}
	if errors.Is(err, fs.ErrExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("make blob: %w", err)
	}
	made, err = file.Stat()
	if err == nil {
		_, err = file.Write(body)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		return made, fmt.Errorf("write blob: %w", err)
	}
	return made, nil
}

// replace gives a blob a new file, durably.
func (f *files) replace(d digest.Digest, body []byte) error {
	id, err := uuid.NewRandom()
	if err != nil {
		return err
	}
	path := f.upload(id.String()) // what a crash leaves there is collected
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(body)
	if err = durable.Finish(file, err); err == nil {
		err = f.place(path, d)
	}
	if err != nil {
		return errors.Join(err, removeIfThere(path))
	}
	return nil
}
