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
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/mirror-appliance/appliance/internal/diskspace"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
	"github.com/mirror-appliance/appliance/registry/store/database"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
	"github.com/mirror-appliance/appliance/registry/store/migrations"
	"github.com/mirror-appliance/appliance/registry/store/sqlite"
)

// RestoreOptions says where to restore to, and what to do when the backup is damaged.
type RestoreOptions struct {
	Database string       // of the store
	Storage  string       // of the store
	MinFree  int64        // bytes to leave free, see store.Options
	Log      *slog.Logger // of damaged blobs; nil: discard

	From     io.Reader                                        // the backup as a tar; nil: it is opened by its name
	Partial  bool                                             // restore what is whole; the rest goes to quarantine, for scrub to fetch
	Progress func(done RestoreReport, of integrity.StoreSize) // called after each blob, and within large ones; may be nil
}

// RestoreReport is what a restore did.
type RestoreReport struct {
	Blobs        int64           `json:"blobs"`     // that the backup's database names
	BlobBytes    int64           `json:"blobBytes"` // of these
	Kept         int64           `json:"kept"`      // were in the storage already, and whole
	Copied       int64           `json:"copied"`
	CopiedBytes  int64           `json:"copiedBytes"`
	Damaged      int64           `json:"damaged"` // in the backup, and not whole in the storage either
	DamagedBytes int64           `json:"damagedBytes"`
	DamagedBlobs []digest.Digest `json:"damagedBlobs,omitempty"`
}

// Restore makes a store of a backup: a directory or a .tar. o.Database must not exist, or have
// nothing that was pushed. Every blob is hashed, also those that the storage already has, which
// are kept; so a restore that was interrupted, or one after the loss of the database alone, copies
// only what is missing. The database is put in place last: until then there is no store, and
// Restore can be called again.
//
// Errors: *database.LockedError, *Error, *database.SchemaError, *diskspace.FullError, and
// *DamagedError, after everything else was copied.
func Restore(ctx context.Context, from string, o RestoreOptions) (report RestoreReport, err error) {
	if o.Database, err = filepath.Abs(o.Database); err != nil {
		return report, fmt.Errorf("restore: %w", err)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	lock, err := sqlite.Lock(o.Database)
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := checkEmpty(ctx, o.Database); err != nil {
		return report, err
	}
	source, err := o.open(from)
	if err != nil {
		return report, err
	}
	defer source.Close()
	files, err := blobfile.Open(o.Storage)
	if err != nil {
		return report, diskspace.Full(o.Storage, 0, err)
	}
	defer func() { err = errors.Join(err, files.Close()) }()
	r := &restore{options: o, from: from, source: source, files: files, report: &report,
		space: diskspace.Checker{Bytes: diskspace.Bytes, MinFree: o.MinFree}}
	defer func() { err = errors.Join(err, r.clear()) }()
	return report, diskspace.Full(files.Root(), 0, r.run(ctx))
}

// restore is one call of Restore.
type restore struct {
	options RestoreOptions
	from    string
	source  source
	files   *blobfile.Dir
	space   diskspace.Checker
	report  *RestoreReport
	of      integrity.StoreSize // what the backup's database names
}

// progress reports what is done, with so many bytes of a blob that is not.
func (r *restore) progress(partial int64) {
	if r.options.Progress == nil {
		return
	}
	done := *r.report
	done.BlobBytes += partial
	r.options.Progress(done, r.of)
}

// dir is where the database is put first: beside its place, so that it can be renamed.
func (r *restore) dir() string  { return r.options.Database + ".restore" }
func (r *restore) path() string { return filepath.Join(r.dir(), databaseName) }

// ready is where the database waits while dir goes, so that a kill after the last rename
// leaves nothing behind.
func (r *restore) ready() string { return r.options.Database + ".restored" }

// clear removes what a restore has made beside the database.
func (r *restore) clear() error {
	return errors.Join(os.RemoveAll(r.dir()), durable.IgnoreMissing(os.Remove(r.ready())))
}

func (r *restore) run(ctx context.Context) error {
	if err := r.fetchDatabase(ctx); err != nil {
		return fmt.Errorf("restore the database of %s: %w", r.from, err)
	}
	if err := r.fill(ctx); ctx.Err() != nil {
		return ctx.Err() // which database/sql reports in other ways, too
	} else if err != nil {
		var not *database.NotDatabaseError
		if errors.As(err, &not) { // whose hint does not fit here
			return r.damagedDatabase(not.Reason)
		}
		return fmt.Errorf("restore from %s: %w", r.from, err)
	}
	if r.report.Damaged > 0 && !r.options.Partial {
		return &DamagedError{Where: r.from, Total: r.report.Damaged, Digests: r.report.DamagedBlobs,
			hint: "restore another backup (what was copied from this one is used), or restore what is whole with --partial; `appliance scrub` then fetches the rest again, where it can"}
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := r.place(); err != nil {
		return fmt.Errorf("put the database in place: %w", err)
	}
	return nil
}

// fetchDatabase copies the database out of the backup to dir, where it is not taken
// for the store's.
func (r *restore) fetchDatabase(ctx context.Context) error {
	if err := r.clear(); err != nil { // after a restore that was killed
		return err
	}
	if err := os.Mkdir(r.dir(), 0o700); err != nil {
		return err
	}
	content, err := r.source.database()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(r.path(), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return errors.Join(err, content.Close())
	}
	_, err = throttle.Copy(ctx, f, content, throttle.New(0))
	if err := errors.Join(err, content.Close(), f.Close()); err != nil {
		return diskspace.Full(r.options.Database, 0, err)
	}
	// SQLite takes an empty file for a new database, and Open takes one without an id
	// for one whose WAL has it.
	ours, err := sqlite.IsApplication(r.path(), migrations.Schema().Application)
	if err == nil && !ours {
		err = r.damagedDatabase("it is empty, cut off, or another program's")
	}
	return err
}

// damagedDatabase is the error for a backup whose database is not what was backed up.
func (r *restore) damagedDatabase(why string) error {
	return &Error{Path: r.from, Reason: "has a damaged " + databaseName + ": " + why, hint: "restore another backup"}
}

// fill opens the copied database and puts each of its blobs in the storage.
func (r *restore) fill(ctx context.Context) (err error) {
	db, err := sqlite.Open(ctx, sqlite.Options{Path: r.path(), Schema: migrations.Schema()}) // which brings an older one up to date
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.Reader().QueryRowContext(ctx, `SELECT (SELECT count(*) FROM manifests), count(*), coalesce(sum(size), 0) FROM blobs`).
		Scan(&r.of.Manifests, &r.of.Blobs, &r.of.BlobBytes)
	if err == nil {
		err = r.checkDatabase(ctx, db)
	}
	if damage := sqlite.Damage(err); damage != nil {
		return r.damagedDatabase(damage.Error())
	}
	if err != nil {
		return err
	}
	err = integrity.EachBlob(ctx, db.Reader(), "", func(d digest.Digest, size int64) error {
		b := blob{d, size}
		damage, err := r.blob(ctx, b)
		if err == nil && damage != "" {
			err = r.damaged(ctx, db, b, damage)
		}
		if err != nil {
			return fmt.Errorf("blob %s: %w", b.digest, err)
		}
		r.report.Blobs++
		r.report.BlobBytes += b.size
		r.progress(0)
		return nil
	})
	if err != nil {
		return err
	}
	// A scrub that was under way during the backup has read other files, and what clusters have told since is lost. A follower
	// may have changes that are lost here, and lists all again.
	err = db.Write(ctx, func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, `DELETE FROM meta WHERE name = ?`, integrity.ScrubCursor)
		if err == nil {
			_, err = tx.ExecContext(ctx, `UPDATE followers SET session = ''`)
		}
		if err == nil {
			_, err = tx.ExecContext(ctx, `INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value`, integrity.Restored, time.Now().UTC().Format(time.RFC3339Nano))
		}
		return err
	})
	if err != nil {
		return err
	}
	return db.Flush(ctx)
}

// checkDatabase fails with an *Error unless the copied database is whole: by SQLite's own
// structures, indexes among them, and by the digests of manifests. One bit in an index is
// enough for a collection to take layers that are in use. What else verify would find was so
// when the backup was made.
func (r *restore) checkDatabase(ctx context.Context, db *sqlite.DB) error {
	r.progress(0)
	problems, err := integrity.CheckDatabase(ctx, db, r.path(), func() { r.progress(0) })
	if err != nil || len(problems) == 0 {
		return err
	}
	p := problems[0]
	return r.damagedDatabase(fmt.Sprintf("%s %s: %s", p.Kind, filepath.Base(p.Name), p.What))
}

// blob puts a blob in the storage, or returns in what way the backup's is damaged.
func (r *restore) blob(ctx context.Context, b blob) (damage string, err error) {
	// A file that exists is read as well: whatever lost the database may have damaged it.
	there, err := r.files.Blob(b.digest).Inspect(ctx, b.size, throttle.New(0))
	if err != nil {
		return "", err
	}
	if there.Damage == "" {
		r.report.Kept++
		return "", nil
	}
	if info, ok := there.Seen.(fs.FileInfo); ok && info.IsDir() {
		return there.Damage, nil
	}
	content, err := r.source.blob(b.digest)
	if errors.Is(err, fs.ErrNotExist) {
		return "it is not in the backup", nil
	}
	if errors.Is(err, blobfile.ErrNotFile) || blobfile.IsDamage(err) {
		return "it cannot be read from the backup: " + err.Error(), nil
	}
	if err != nil {
		return "", err
	}
	defer content.Close()
	return r.copy(ctx, b, content)
}

func (r *restore) copy(ctx context.Context, b blob, content io.Reader) (damage string, err error) {
	if err := r.space.Check(r.files.Root(), b.size); err != nil {
		return "", err
	}
	f, err := r.files.Temp()
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close(), durable.IgnoreMissing(os.Remove(f.Name()))) }()
	if damage, err = pour(ctx, b, content, f, throttle.New(0), r.progress); err != nil || damage != "" {
		return damage, err
	}
	r.report.Copied++
	r.report.CopiedBytes += b.size
	_, err = r.files.Place(f, b.digest)
	return "", err
}

func (r *restore) damaged(ctx context.Context, db *sqlite.DB, b blob, damage string) error {
	r.options.Log.Error("a blob of the backup is damaged", "digest", b.digest, "damage", damage)
	r.report.Damaged++
	r.report.DamagedBytes += b.size
	if len(r.report.DamagedBlobs) < damagedListed {
		r.report.DamagedBlobs = append(r.report.DamagedBlobs, b.digest)
	}
	if !r.options.Partial {
		return nil
	}
	return db.Write(ctx, func(tx *sql.Tx) error {
		return integrity.QuarantineRow(ctx, tx, b.digest, b.size, damage, time.Now())
	})
}

// place puts the database where the store looks for it.
func (r *restore) place() error {
	if err := syncFile(r.path()); err != nil {
		return err
	}
	// A WAL of the database that was there would be taken for one of the new.
	for _, suffix := range []string{"-wal", "-shm", "-journal"} {
		if err := durable.IgnoreMissing(os.Remove(r.options.Database + suffix)); err != nil {
			return err
		}
	}
	if err := os.Rename(r.path(), r.ready()); err != nil {
		return err
	}
	if err := os.RemoveAll(r.dir()); err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(r.options.Database)); err != nil {
		return err
	}
	if err := os.Rename(r.ready(), r.options.Database); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(r.options.Database))
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return durable.Finish(f, nil)
}

// checkEmpty refuses a database that has anything in it that a restore would lose. Accounts do not
// count: an installation makes some, and the backup has its own.
func checkEmpty(ctx context.Context, path string) error {
	switch info, err := os.Stat(path); {
	case errors.Is(err, fs.ErrNotExist) || err == nil && info.Size() == 0:
		return nil
	case err != nil:
		return fmt.Errorf("look for a store: %w", err)
	}
	db, err := sqlite.Open(ctx, sqlite.Options{Path: path, Schema: migrations.Schema()})
	if err != nil {
		return err
	}
	used, err := integrity.Used(ctx, db.Reader())
	if err := errors.Join(err, db.Close()); err != nil {
		return fmt.Errorf("look into the store that is there: %w", err)
	}
	if used {
		return &Error{Path: path, Reason: "has images in it, which a restore would lose",
			hint: "move it away if it is to be replaced; the blobs in the storage may stay, they are verified and used"}
	}
	return nil
}
