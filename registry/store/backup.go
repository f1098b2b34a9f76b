package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
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

// BackupOptions says what to back up, and how.
type BackupOptions struct {
	Database       string                                // of the store
	Snapshot       string                                // the name of the file beside it that Store.Snapshot made, and that is not released yet
	Storage        string                                // of the store
	Prune          bool                                  // a directory: remove blobs that the new database does not name
	BytesPerSecond int64                                 // copy no faster than that; 0: as fast as it goes. Links take no time
	Progress       func(done BackupReport, of StoreSize) // called after each blob, and within large ones; nil: nobody asks
	Log            *slog.Logger                          // in what way blobs are damaged; nil: discard
	Owner          *int                                  // the user whose files and directories the store's are, and no others are read; nil: anybody's
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

// Backup copies a store to dest, while it serves: a snapshot of the database, then the blobs that it names. A
// dest that ends in .tar is written as one file; any other is a directory, where the blobs of the backup
// before are kept. Blobs are cloned where the file system can (reflink), linked where it is the same one, and
// copied otherwise. The database is put in place last: until then, and for ever if it is interrupted, the
// backup before is the one that is there.
//
// It needs no Store: who may write dest is rarely who owns the store. Its caller may well be root, and the
// owner of the store a service that has been taken over: nothing is followed that leads out of the directories
// of either side, and what is read must hash to its name.
//
// What is damaged in the storage ends in a *DamagedError, after all the rest has been backed up. Others:
// *BackupError for a dest that cannot or must not be written to, and for a store that may not be read.
func Backup(ctx context.Context, dest string, o BackupOptions) (report BackupReport, err error) {
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

// backup is one call of Backup.
type backup struct {
	options  BackupOptions
	storage  *os.Root
	pace     throttle.Pace
	report   *BackupReport
	database fs.FileInfo // of the snapshot
	of       StoreSize   // what it names
}

// progressBytes is how much of a blob is copied without a word.
const progressBytes = 16 << 20

// progress tells how far it is, with so many bytes of a blob that is not done.
func (b *backup) progress(partial int64) {
	if b.options.Progress == nil {
		return
	}
	done := *b.report
	done.BlobBytes += partial
	b.options.Progress(done, b.of)
}

// backupSink is where a backup goes: a directory or a tar.
type backupSink interface {
	snapshot() string                                            // the path that the database is put at first
	create() (*os.File, error)                                   // make that file
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
		blob := sized{d, size}
		if err := b.put(ctx, sink, blob); err != nil {
			return fmt.Errorf("blob %s: %w", blob.digest, err)
		}
		b.progress(0)
		return nil
	})
	if err != nil {
		return err
	}
	return sink.finish(ctx, snapshot)
}

// fetchDatabase copies the snapshot to the backup, where its owner cannot change it any more while it is read.
func (b *backup) fetchDatabase(ctx context.Context, sink backupSink) error {
	dir, err := os.OpenRoot(filepath.Dir(b.options.Database))
	if err != nil {
		return unreadable(b.options.Database, err)
	}
	defer dir.Close()
	if err := b.options.owns(dir); err != nil {
		return unreadable(filepath.Dir(b.options.Database), err)
	}
	from, info, err := b.openSnapshotFile(dir)
	if err != nil {
		return unreadable(filepath.Join(filepath.Dir(b.options.Database), b.options.Snapshot), err)
	}
	defer from.Close()
	to, err := sink.create()
	if err != nil {
		return err
	}
	b.database = info
	b.report.DatabaseBytes, err = throttle.Copy(ctx, to, from, b.pace)
	return durable.Finish(to, err)
}

// openSnapshotFile opens the snapshot by the name that the daemon has given, if it can be one that Store.Snapshot makes.
func (b *backup) openSnapshotFile(dir *os.Root) (*os.File, fs.FileInfo, error) {
	name := b.options.Snapshot
	if filepath.Base(name) != name || !strings.HasPrefix(name, filepath.Base(b.options.Database)+sqlite.SnapshotInfix) {
		return nil, nil, fmt.Errorf("%s is not the name of a snapshot", image.Quote(name))
	}
	return b.options.open(dir, name)
}

// owns refuses a directory of another user.
func (o BackupOptions) owns(dir *os.Root) error {
	info, err := dir.Stat(".")
	if err != nil {
		return err
	}
	return o.of(dir.Name(), info)
}

// open opens a file of the store: one of its owner's, since the owner may have linked a file of another user into it.
func (o BackupOptions) open(dir *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, info, err := openRegular(dir, name)
	if err != nil {
		return nil, nil, err
	}
	if err := o.of(f.Name(), info); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
}

func (o BackupOptions) of(path string, info fs.FileInfo) error {
	if stat, ok := info.Sys().(*syscall.Stat_t); o.Owner != nil && ok && int(stat.Uid) != *o.Owner {
		return &fs.PathError{Op: "open", Path: path, Err: errNotOwners}
	}
	return nil
}

// filesBehind is how long a backup waits for the files of blobs that were pushed just before it began.
const filesBehind = 2 * time.Second

// awaitFiles waits for the files of small blobs, which may be a moment behind their rows.
func (b *backup) awaitFiles(ctx context.Context, snapshot *sql.DB) error {
	var late []digest.Digest
	scan := func(rows *sql.Rows) error {
		var d digest.Digest
		err := rows.Scan(&d)
		if err == nil && image.CheckDigest(d) == nil {
			late = append(late, d)
		}
		return err
	}
	if err := sqlite.Query(ctx, snapshot, scan, `SELECT digest FROM blob_journal`); err != nil {
		return fmt.Errorf("read the journal of small blobs: %w", err)
	}
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

// look sees whether the storage has the file of a blob as its row says, and says in what way it has not.
func (b *backup) look(blob sized) (info fs.FileInfo, damage string, err error) {
	if err := image.CheckDigest(blob.digest); err != nil {
		return nil, err.Error(), nil
	}
	info, err = b.storage.Lstat(blobfile.Name(blob.digest))
	switch {
	case err != nil:
		damage, err = b.lost(err)
		return nil, damage, err
	case !info.Mode().IsRegular():
		return nil, info.Name() + " is not a file", nil
	case info.Size() != blob.size:
		return nil, blobfile.WrongSize(info.Name(), info.Size(), blob.size), nil
	}
	return info, "", nil
}

// source opens the file of a blob that look has seen.
func (b *backup) source(blob sized) (f *os.File, damage string, err error) {
	f, _, err = b.options.open(b.storage, blobfile.Name(blob.digest))
	if err != nil {
		damage, err = b.lost(err)
	}
	return f, damage, err
}

// lost tells damage from other errors of a file in the storage.
func (b *backup) lost(err error) (damage string, _ error) {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, blobfile.ErrNotFile) || errors.Is(err, errNotOwners) || blobfile.IsDamage(err) {
		return "its file cannot be read: " + err.Error(), nil
	}
	return "", unreadable(b.options.Storage, err)
}

var (
	errNotOwners = errors.New("it does not belong to the user that the registry runs as")
)

// openRegular opens a file to be read that is below root, whatever its name leads to, and is one: opening a pipe would
// wait for ever.
func openRegular(root *os.Root, name string) (*os.File, fs.FileInfo, error) {
	f, err := root.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = &fs.PathError{Op: "open", Path: f.Name(), Err: blobfile.ErrNotFile}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, info, nil
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
		b.options.Log.Error("a damaged blob is not in the backup", "digest", blob.digest, "damage", damage)
		b.report.Damaged++
		if len(b.report.DamagedBlobs) < damagedListed {
			b.report.DamagedBlobs = append(b.report.DamagedBlobs, blob.digest)
		}
	}
	return nil
}

// unreadable is an error of the store's side of a backup.
func unreadable(path string, err error) error {
	e := &BackupError{Path: path, Why: "cannot be read: " + err.Error(), err: err}
	switch {
	case errors.Is(err, fs.ErrPermission):
		e.hint = "back up as root, or as the user that the registry runs as"
	case errors.Is(err, fs.ErrNotExist):
		e.hint = "check `database:` and `storage:` in config.yaml; if they were changed, restart the registry and back up again"
	}
	return e
}

// unwritable is an error of the destination's side, unless err is already somebody's who knows better.
func unwritable(dest string, err error) error {
	var known *BackupError
	if errors.As(err, &known) {
		return err
	}
	e := &BackupError{Path: dest, Why: "cannot be written: " + err.Error(), err: err}
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

// BackupError says why a backup cannot be written to or read from a place.
type BackupError struct {
	Path, Why, hint string
	err             error
}

func (e *BackupError) Error() string { return e.Path + " " + e.Why }
func (e *BackupError) Unwrap() error { return e.err }

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
