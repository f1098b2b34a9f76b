package backup

import (
	"archive/tar"
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/throttle"
	"github.com/mirror-appliance/appliance/registry/store/blobfile"
)

// tarSink is a backup that is one file.
type tarSink struct {
	*backup
	path     string
	dir      *os.Root // that it is in
	file     *os.File
	database *os.File // the snapshot, while it is copied
	buf      *bufio.Writer
	tar      *tar.Writer
}

func (b *backup) openTar(path string) (*tarSink, error) {
	if info, err := os.Stat(path); err == nil && info.IsDir() {
		return nil, &Error{Path: path, Reason: "is a directory, and a name that ends in .tar is to be a file", hint: "give another name, or remove the directory"}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the backup: %w", err)
	}
	if err := b.notInStorage(filepath.Dir(path)); err != nil {
		return nil, err
	}
	dir, err := os.OpenRoot(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	t := &tarSink{backup: b, path: path, dir: dir}
	if err := t.openPart(); err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	t.buf = bufio.NewWriterSize(t.file, throttle.Buffer)
	t.tar = tar.NewWriter(t.buf)
	return t, nil
}

// openPart opens the file that is being written, and empties it unless it is that of
// another backup.
func (t *tarSink) openPart() (err error) {
	// Not through a link: the directory may be one where others make files, such as /tmp.
	info, err := t.dir.Lstat(t.part())
	if err == nil && !info.Mode().IsRegular() {
		return &Error{Path: t.path + ".tmp", Reason: "is not a file", hint: "remove it, or give another name"}
	}
	if t.file, err = t.dir.OpenFile(t.part(),
		os.O_WRONLY|os.O_CREATE|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0o600); err != nil {
		return fmt.Errorf("make backup file: %w", err)
	}
	if err := t.own(); err != nil {
		return errors.Join(err, t.file.Close())
	}
	return nil
}

func (t *tarSink) own() error {
	lockError := durable.Lock(t.file, durable.Exclusive)
	opened, err := t.file.Stat()
	if err != nil {
		return err
	}
	// It is another backup's if the lock is taken, or if that backup has ended since and put this
	// very file in place. A file with other names, or of another user, is not ours either.
	named, err := t.dir.Lstat(t.part())
	if errors.Is(lockError, durable.ErrLocked) || err != nil || !os.SameFile(opened, named) {
		return &Error{Path: t.path, Reason: "is being written by another backup",
			hint: "wait until that has ended, or give another name"}
	}
	if stat, ok := opened.Sys().(*syscall.Stat_t); !opened.Mode().IsRegular() || ok && stat.Nlink > 1 {
		return &Error{Path: t.path + ".tmp", Reason: "is not a file of a backup's own",
			hint: "remove it, or give another name"}
	}
	return t.file.Truncate(0)
}

func (t *tarSink) part() string         { return filepath.Base(t.path) + ".tmp" }
func (t *tarSink) snapshotName() string { return filepath.Base(t.path) + ".db.tmp" }
func (t *tarSink) snapshot() string     { return t.path + ".db.tmp" }

// create creates the file for the snapshot, which begin reads by the same descriptor.
func (t *tarSink) create() (_ *os.File, err error) {
	if err := durable.IgnoreMissing(t.dir.Remove(t.snapshotName())); err != nil { // of a backup that was interrupted
		return nil, err
	}
	if t.database, err = t.dir.OpenFile(t.snapshotName(), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600); err != nil {
		return nil, err
	}
	return duplicate(t.database)
}

// duplicate returns a second descriptor, for a caller that closes it.
func duplicate(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), f.Name()), nil
}

// begin writes the database, which comes first so that a restore knows what to expect.
func (t *tarSink) begin(ctx context.Context) error {
	if _, err := t.database.Seek(0, io.SeekStart); err != nil {
		return err
	}
	if err := t.header(databaseName, t.report.DatabaseBytes); err != nil {
		return err
	}
	_, err := throttle.Copy(ctx, t.tar, t.database, t.pace)
	return err
}

func (t *tarSink) header(name string, size int64) error {
	return t.tar.WriteHeader(&tar.Header{
		Format: tar.FormatPAX, Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600,
		ModTime: t.backup.database.ModTime().Truncate(time.Second),
	})
}

func (t *tarSink) put(ctx context.Context, blob blob) (damage string, err error) {
	if _, damage, err := t.look(blob); err != nil || damage != "" {
		return damage, err
	}
	f, damage, err := t.openBlob(blob)
	if err != nil || damage != "" {
		return damage, err
	}
	defer f.Close()
	if err := t.header(filepath.ToSlash(blobfile.Name(blob.digest)), blob.size); err != nil {
		return "", err
	}
	entry := &counted{w: t.tar}
	damage, err = t.pour(ctx, blob, f, entry)
	if err != nil {
		return "", err
	}
	// The header has promised so many bytes. A restore finds out that they do not
	// hash to their name.
	_, err = io.CopyN(t.tar, throttle.ReaderFunc(zeros), blob.size-entry.n)
	return damage, err
}

// counted counts what it writes.
type counted struct {
	w io.Writer
	n int64
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

func zeros(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func (t *tarSink) finish(ctx context.Context, _ *sql.DB) error {
	for _, step := range []func() error{t.tar.Close, t.buf.Flush, t.file.Sync, ctx.Err} {
		if err := step(); err != nil {
			return err
		}
	}
	if err := t.dir.Rename(t.part(), filepath.Base(t.path)); err != nil {
		return err
	}
	return syncBackup(t.dir.Open("."))
}

func (t *tarSink) discard() error {
	err := errors.Join(durable.IgnoreMissing(t.dir.Remove(t.snapshotName())),
		durable.IgnoreMissing(t.dir.Remove(t.part())), t.file.Close())
	if t.database != nil {
		err = errors.Join(err, t.database.Close())
	}
	return errors.Join(err, t.dir.Close())
}
