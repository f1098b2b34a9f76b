package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
)

// A backup is a directory, or a .tar of the same names:
//
//	<backup>/appliance.db              a whole SQLite file, without a WAL
//	<backup>/sha256/<2 hex>/<hex>      the blobs, laid out as in the storage
//	<backup>/sha512/<2 hex>/<hex>
//
// In a .tar the database comes first and the blobs follow in the order of their digests. The database says
// which blobs belong to the backup; files that it does not name are of an older one or of one that was
// interrupted, and do no harm. It has password hashes and secrets in it, and is its owner's alone.
const backupDatabase = "appliance.db"

const damagedListed = 100 // digests that an error or a report names

// BackupOptions says how to back up.
type BackupOptions struct {
	Prune          bool                                  // a directory: remove blobs that the new database does not name
	BytesPerSecond int64                                 // copy no faster than that; 0: as fast as it goes. Links take no time
	Progress       func(done BackupReport, of StoreSize) // called after each blob; nil: nobody asks
}

// BackupReport is what a backup did.
type BackupReport struct {
	DatabaseBytes int64           `json:"databaseBytes"`
	Blobs         int64           `json:"blobs"`       // that the database names
	BlobBytes     int64           `json:"blobBytes"`   // of these
	Kept          int64           `json:"kept"`        // were there from the backup before
	Cloned        int64           `json:"cloned"`      // share their blocks with the storage (reflink)
	Linked        int64           `json:"linked"`      // share their file with the storage (hard link)
	Copied        int64           `json:"copied"`      // were read, verified and written
	CopiedBytes   int64           `json:"copiedBytes"` // of these
	Pruned        int64           `json:"pruned"`      // files of older backups that were removed
	Damaged       int64           `json:"damaged"`     // blobs that are damaged in the storage and not whole in the backup
	DamagedBlobs  []digest.Digest `json:"damagedBlobs,omitempty"`
}

// Backup copies the store to dest, while it serves: a consistent snapshot of the database, then the blobs
// that the snapshot names. A dest that ends in .tar is written as one file; any other is a directory, where
// the blobs of the backup before are kept. Blobs are cloned where the file system can (reflink), linked where
// it is the same one, and copied otherwise. The database is put in place last: until then, and for ever if
// it is interrupted, the backup before is the one that is there.
//
// What is damaged in the storage ends in a *DamagedError, after all the rest has been backed up. Others:
// *FullError, and *BackupError for a dest that must not be written to.
func (s *Store) Backup(ctx context.Context, dest string, o BackupOptions) (report BackupReport, err error) {
	dest, err = filepath.Abs(dest)
	if err != nil {
		return report, fmt.Errorf("back up: %w", err)
	}
	b := &backup{store: s, options: o, pace: newPace(o.BytesPerSecond), report: &report}
	sink, err := b.open(dest)
	if err != nil {
		return report, fullAt(dest, err)
	}
	defer func() {
		if leftover := sink.discard(); err == nil && leftover != nil {
			err = leftover
		}
		err = fullAt(dest, err)
	}()
	// Before the snapshot: what it names must still have its file when its turn comes.
	s.guard.holdFiles()
	defer s.guard.unholdFiles()
	if err := s.snapshot(ctx, sink.snapshot()); err != nil {
		return report, err
	}
	if err := b.run(ctx, sink); err != nil {
		return report, fmt.Errorf("back up to %s: %w", dest, err)
	}
	if report.Damaged > 0 {
		return report, &DamagedError{Where: "the storage", Total: report.Damaged, Digests: report.DamagedBlobs,
			hint: "the backup has everything else; run `appliance scrub`, which fetches damaged blobs again where it can, and back up once more"}
	}
	return report, nil
}

// backup is one call of Backup.
type backup struct {
	store   *Store
	options BackupOptions
	pace    pace
	report  *BackupReport
}

// backupSink is where a backup goes: a directory or a tar.
type backupSink interface {
	snapshot() string                                            // the path that the database is put at first
	begin(ctx context.Context) error                             // the snapshot is there
	put(ctx context.Context, b sized) (damage string, err error) // blobs come in the order of their digests
	finish(ctx context.Context, snapshot *sql.DB) error          // put the backup in place of the one before
	discard() error                                              // remove what is not in place
}

func (b *backup) open(dest string) (backupSink, error) {
	if strings.HasSuffix(dest, ".tar") {
		return b.openTar(dest)
	}
	return b.openDir(dest)
}

func (b *backup) run(ctx context.Context, sink backupSink) error {
	snapshot, err := openSnapshot(sink.snapshot())
	if err != nil {
		return err
	}
	defer snapshot.Close()
	var of StoreSize
	err = snapshot.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM manifests), count(*), coalesce(sum(size), 0) FROM blobs`).
		Scan(&of.Manifests, &of.Blobs, &of.BlobBytes)
	if err != nil {
		return fmt.Errorf("read the snapshot of the database: %w", err)
	}
	info, err := os.Stat(sink.snapshot())
	if err != nil {
		return err
	}
	b.report.DatabaseBytes = info.Size()
	if err := sink.begin(ctx); err != nil {
		return err
	}
	err = eachBlob(ctx, snapshot, "", func(blob sized) error {
		if err := b.put(ctx, sink, blob); err != nil {
			return fmt.Errorf("blob %s: %w", blob.digest, err)
		}
		if b.options.Progress != nil {
			b.options.Progress(*b.report, of)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return sink.finish(ctx, snapshot)
}

func (b *backup) put(ctx context.Context, sink backupSink, blob sized) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	damage, err := sink.put(ctx, blob)
	if err != nil {
		return err
	}
	b.report.Blobs++
	b.report.BlobBytes += blob.size
	if damage != "" {
		b.store.log.Error("a damaged blob is not in the backup", "digest", blob.digest, "damage", damage)
		b.report.Damaged++
		if len(b.report.DamagedBlobs) < damagedListed {
			b.report.DamagedBlobs = append(b.report.DamagedBlobs, blob.digest)
		}
	}
	return nil
}

// eachBlob hands over the blobs of a database after last, in the order of their digests. Nothing is held
// meanwhile.
func eachBlob(ctx context.Context, db *sql.DB, last digest.Digest, yield func(sized) error) error {
	for {
		page, err := listBlobs(ctx, db, last)
		if err != nil {
			return err
		}
		for _, b := range page {
			if err := yield(b); err != nil {
				return err
			}
			last = b.digest
		}
		if len(page) < blobPage {
			return nil
		}
	}
}

// snapshot writes the database as it is at one moment to a file of its own, whole and synced.
func (s *Store) snapshot(ctx context.Context, to string) error {
	// Before SQLite makes the file, since it would make it readable for all; an empty one it takes.
	f, err := os.OpenFile(to, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return fmt.Errorf("write a snapshot of the database: %w", err)
	}
	defer f.Close()
	// A connection of its own: readers may only query, and the writer is not to wait.
	db, err := sql.Open("sqlite", dsn(s.database))
	if err != nil {
		return fmt.Errorf("write a snapshot of the database: %w", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `VACUUM INTO ?`, to); err != nil {
		return fmt.Errorf("write a snapshot of the database to %s: %w", to, err)
	}
	if err := f.Sync(); err != nil {
		return fmt.Errorf("sync the snapshot of the database: %w", err)
	}
	return nil
}

// openSnapshot opens a database that nobody writes, and leaves no file beside it.
func openSnapshot(path string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", (&url.URL{Scheme: "file", Path: path, RawQuery: "mode=ro&immutable=1"}).String())
	if err != nil {
		return nil, fmt.Errorf("open the snapshot of the database: %w", err)
	}
	return db, nil
}

// holdFiles lets collections leave the files of the blobs that they remove, until unholdFiles.
func (g *guard) holdFiles() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.copying++
}

func (g *guard) unholdFiles() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.copying--
}

func (g *guard) filesHeld() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.copying > 0
}

// fullAt is full for errors that already are about the destination of a backup.
func fullAt(dest string, err error) error {
	var already *FullError
	if errors.As(err, &already) {
		return err
	}
	return full(filepath.Dir(dest), 0, err)
}

// BackupError says why a backup cannot be written to or read from a place.
type BackupError struct{ Path, Why, hint string }

func (e *BackupError) Error() string { return e.Path + " " + e.Why }

// Hint says what to do next.
func (e *BackupError) Hint() string { return e.hint }

// DamagedError says that blobs are not what their digests say, or missing.
type DamagedError struct {
	Where   string
	Total   int64
	Digests []digest.Digest // the first hundred
	hint    string
}

func (e *DamagedError) Error() string {
	names := make([]string, len(e.Digests))
	for i, d := range e.Digests {
		names[i] = d.String()
	}
	if e.Total > int64(len(names)) {
		names = append(names, "…")
	}
	return fmt.Sprintf("%d blobs in %s are damaged or missing: %s", e.Total, e.Where, strings.Join(names, ", "))
}

// Hint says what to do next.
func (e *DamagedError) Hint() string { return e.hint }
