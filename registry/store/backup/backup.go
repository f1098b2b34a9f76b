package backup

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

const databaseName = "appliance.db"

const damagedListed = 100 // digests that a report names

// Options are what a backup reads and writes.
type Options struct {
	Database       string                                    // of the store
	Snapshot       string                                    // the name of its snapshot beside it, see Store.Snapshot
	Storage        string                                    // of the store
	Prune          bool                                      // a directory: remove blobs that the new database does not name
	BytesPerSecond int64                                     // copy no faster than that; 0: as fast as it goes. Links take no time
	Progress       func(done Report, of integrity.StoreSize) // called after each blob, and within large ones; may be nil
	Log            *slog.Logger                              // of damaged blobs; nil: discard
	Owner          *int                                      // the user to whom all that is read must belong; nil: any
}

// Report is what a backup did.
type Report struct {
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

// Create backs a store up to dest: a snapshot of the database, then the blobs that it names. A dest
// that ends in .tar is written as one file; any other is a directory, where the blobs of the backup
// before are kept. Blobs are cloned where the file system can (reflink), linked where it is the
// same one, and copied otherwise. The database is put in place last: until then, and for good if it
// is interrupted, the backup before stays.
//
// Damage in the storage ends in a *DamagedError, after everything else has been backed
// up. Other errors: *Error for a dest that cannot or must not be written to, and for a
// store that may not be read.
func Create(ctx context.Context, dest string, o Options) (report Report, err error) {
	dest, err = filepath.Abs(dest)
	if err != nil {
		return report, fmt.Errorf("back up: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	storage, err := os.OpenRoot(o.Storage)
	if err != nil {
		return report, unreadable(o.Storage, err)
	}
	defer storage.Close()
	if err := o.owns(storage); err != nil {
		return report, unreadable(o.Storage, err)
	}
	b := &backup{options: o, storage: storage, pace: throttle.New(o.BytesPerSecond), report: &report}
	sink, err := b.open(dest)
	if err != nil {
		return report, unwritable(dest, err)
	}
	defer func() {
		if leftover := sink.discard(); err == nil && leftover != nil {
			err = unwritable(dest, leftover)
		}
	}()
	if err := b.run(ctx, sink); err != nil {
		return report, unwritable(dest, err)
	}
	if report.Damaged > 0 {
		return report, &DamagedError{Where: "the storage", Total: report.Damaged, Digests: report.DamagedBlobs,
			hint: "the backup has everything else; run `appliance scrub`, which fetches damaged blobs again where it can, and back up once more"}
	}
	return report, nil
}

// backup is one call of Create.
type backup struct {
	options  Options
	storage  *os.Root
	pace     throttle.Pace
	report   *Report
	database fs.FileInfo         // of the snapshot
	of       integrity.StoreSize // what it names
}

// progress reports what is done, with so many bytes of a blob that is not.
func (b *backup) progress(partial int64) {
	if b.options.Progress == nil {
		return
	}
	done := *b.report
	done.BlobBytes += partial
	b.options.Progress(done, b.of)
}

// sink is where a backup goes: a directory or a tar.
type sink interface {
	snapshot() string                                           // returns where the database is put first
	create() (*os.File, error)                                  // creates that file
	begin(ctx context.Context) error                            // is called when it is complete
	put(ctx context.Context, b blob) (damage string, err error) // is called in the order of the digests
	finish(ctx context.Context, snapshot *sql.DB) error         // puts the backup in the place of the one before
	discard() error                                             // removes what is not in place
}

func (b *backup) open(dest string) (sink, error) {
	if strings.HasSuffix(dest, ".tar") {
		return b.openTar(dest)
	}
	return b.openDir(dest)
}

func (b *backup) run(ctx context.Context, sink sink) error {
	if err := b.fetchDatabase(ctx, sink); err != nil {
		return err
	}
	snapshot, err := sqlite.OpenSnapshot(sink.snapshot())
	if err != nil {
		return err
	}
	defer snapshot.Close()
	err = snapshot.QueryRowContext(ctx, `SELECT (SELECT count(*) FROM manifests), count(*), coalesce(sum(size), 0) FROM blobs`).
		Scan(&b.of.Manifests, &b.of.Blobs, &b.of.BlobBytes)
	if err != nil {
		return fmt.Errorf("read the snapshot of the database: %w", err)
	}
	if err := sink.begin(ctx); err != nil {
		return err
	}
	if err := b.awaitFiles(ctx, snapshot); err != nil {
		return err
	}
	err = integrity.EachBlob(ctx, snapshot, "", func(d digest.Digest, size int64) error {
		if err := b.put(ctx, sink, blob{d, size}); err != nil {
			return fmt.Errorf("blob %s: %w", d, err)
		}
		b.progress(0)
		return nil
	})
	if err != nil {
		return err
	}
	return sink.finish(ctx, snapshot)
}

// filesBehind is how long a backup waits for the files of blobs that were pushed just before it.
const filesBehind = 2 * time.Second

// awaitFiles waits for the files of small blobs, which may be a moment behind their rows.
func (b *backup) awaitFiles(ctx context.Context, snapshot *sql.DB) error {
	late, err := database.Column[digest.Digest](ctx, snapshot, `SELECT digest FROM blob_journal`)
	if err != nil {
		return fmt.Errorf("read the journal of small blobs: %w", err)
	}
	late = slices.DeleteFunc(late, func(d digest.Digest) bool { return image.CheckDigest(d) != nil })
	for end := time.Now().Add(filesBehind); len(late) > 0 && time.Now().Before(end); {
		if _, err := b.storage.Lstat(blobfile.Name(late[0])); !errors.Is(err, fs.ErrNotExist) {
			late = late[1:]
			continue
		}
		if err := retry.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func (b *backup) put(ctx context.Context, sink sink, blob blob) error {
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
		b.options.Log.Error("a damaged blob is not in the backup", "digest", blob.digest, "damage", damage)
		b.report.Damaged++
		if len(b.report.DamagedBlobs) < damagedListed {
			b.report.DamagedBlobs = append(b.report.DamagedBlobs, blob.digest)
		}
	}
	return nil
}

// pour copies a blob of the storage to w and counts it, unless it is damaged.
func (b *backup) pour(ctx context.Context, blob blob, from io.Reader, w io.Writer) (damage string, err error) {
	damage, err = pour(ctx, blob, from, w, b.pace, b.progress)
	if err == nil && damage == "" {
		b.report.Copied++
		b.report.CopiedBytes += blob.size
	}
	return damage, err
}

// unreadable is an error of the store's side of a backup.
func unreadable(path string, err error) error {
	e := &Error{Path: path, Reason: "cannot be read: " + err.Error(), err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.hint = "back up as root, or as the user that the registry runs as"
	case errors.Is(err, fs.ErrNotExist):
		e.hint = "check `database:` and `storage:` in config.yaml; if they were changed, restart the registry and back up again"
	}
	return e
}

// unwritable is an error of the destination's side, unless err is an *Error already.
func unwritable(dest string, err error) error {
	var known *Error
	if errors.As(err, &known) {
		return err
	}
	e := &Error{Path: dest, Reason: "cannot be written: " + err.Error(), err: err}
	switch {
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		e.hint = "free space there, or give another place; `--prune` removes what only older backups in a directory need"
	case errors.Is(err, fs.ErrPermission) && os.Geteuid() == 0:
		e.hint = "a network share may refuse root (NFS: root_squash): export it with no_root_squash, or back up to a local disk and copy it from there"
	case errors.Is(err, fs.ErrPermission):
		e.hint = "give a directory that you may write to"
	case errors.Is(err, syscall.EROFS):
		e.hint = "give a directory on a file system that is writable"
	case errors.Is(err, syscall.EFBIG):
		e.hint = "the file system there has no files of that size (FAT: 4 GiB): give a directory in place of a .tar, or another file system"
	default:
		return fmt.Errorf("back up to %s: %w", dest, err)
	}
	return e
}

// Error says why a backup cannot be written to or read from a place.
type Error struct {
	Path, Reason, hint string
	err                error
}

func (e *Error) Error() string { return e.Path + " " + e.Reason }
func (e *Error) Unwrap() error { return e.err }

// Hint returns the next step.
func (e *Error) Hint() string { return e.hint }

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

// Hint returns the next step.
func (e *DamagedError) Hint() string { return e.hint }
