// Package relocate moves entries of a directory to another one: by rename within a file system,
// otherwise by a copy that can begin while the files are in use.
//
// Use Tree.Copy while the registry serves, then once more when it has stopped: the second call copies
// what has changed since the first, so that it takes as long as that. It ends with To being like From.
// A copy of another process goes on: a blob that is there is read and compared with its digest.
// Rename and RenameBack need that nothing is in use.
//
// Nothing but the named entries is looked at or changed, in either directory. Both may belong to a user
// whom root does not trust: paths are opened below an os.Root, and links are copied as links.
//
// Refused: rsync, which a host may lack; a copy of the database by SQLite, since the second call finds
// it closed, and a file that is compared block by block needs no transaction.
package relocate

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/durable"
)

// Tree is what moves from one directory to another.
type Tree struct {
	Host     *host.Host
	From, To string
	Ours     func(names []string) []string // those of the names in a directory that move
	Progress func(Size)                    // of what Copy has gone through, within large files too; may be nil

	seen    map[string]look // what an earlier call of Copy has copied
	done    Size
	damaged []string
}

// Size is how much there is.
type Size struct {
	Bytes int64
	Files int64 // and directories, of Measure
	Disk  int64 // what they take, of Measure
}

// unit is what a file takes at least.
const unit = 4096

// look tells a file from what it was, or becomes.
type look struct {
	inode        uint64
	size         int64
	mtime, ctime unix.Timespec
}

// skipped are files that are of no use without the process that has them open.
const skipped = "-shm"

// Measure returns the size of what moves, or, with to, of what a copy has at To already.
func (t *Tree) Measure(ctx context.Context, to bool) (size Size, err error) {
	at := t.From
	if to {
		at = t.To
	}
	dir, err := t.Host.OpenRoot(at)
	if to && errors.Is(err, fs.ErrNotExist) {
		return size, nil
	}
	if err != nil {
		return size, err
	}
	defer dir.Close()
	names, err := t.names(dir)
	for _, name := range names {
		err = errors.Join(err, fs.WalkDir(dir.FS(), name, func(_ string, d fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) { // it is in use
				return nil
			}
			if err != nil || ctx.Err() != nil {
				return errors.Join(err, ctx.Err())
			}
			info, err := d.Info()
			if err != nil || strings.HasSuffix(d.Name(), skipped) {
				return nil
			}
			size.Files++
			size.Disk += unit
			if d.Type().IsRegular() {
				size.Bytes += info.Size()
				size.Disk += info.Size()
			}
			return nil
		}))
	}
	return size, err
}

// names lists the entries that move.
func (t *Tree) names(dir *os.Root) ([]string, error) {
	entries, err := fs.ReadDir(dir.FS(), ".")
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	ours := slices.DeleteFunc(t.Ours(names), func(name string) bool { return !slices.Contains(names, name) })
	return append(ours, t.Unfinished(names)...), err
}

// Unfinished returns those of the names of a directory that a copy has left which was killed in the middle of a file.
func (t *Tree) Unfinished(names []string) (unfinished []string) {
	for _, name := range names {
		if of, ok := strings.CutPrefix(name, temporary); ok && slices.Contains(t.Ours([]string{of}), of) {
			unfinished = append(unfinished, name)
		}
	}
	return unfinished
}

// temporary is before the name of a file that is not copied to its end.
const temporary = ".moving-"

// roots opens both directories.
func (t *Tree) roots() (from, to *os.Root, err error) {
	if from, err = t.Host.OpenRoot(t.From); err != nil {
		return nil, nil, err
	}
	if to, err = t.Host.OpenRoot(t.To); err != nil {
		return nil, nil, errors.Join(err, from.Close())
	}
	return from, to, nil
}

// Rename moves everything, unless a name is taken at To.
func (t *Tree) Rename() error {
	from, to, err := t.roots()
	if err != nil {
		return err
	}
	defer from.Close()
	defer to.Close()
	if err := rename(from, to, t.names); err != nil {
		return fmt.Errorf("rename from %s to %s: %w", t.From, t.To, err)
	}
	return nil
}

// RenameBack undoes a Rename, also one that was killed, and reports whether there was anything to do.
func (t *Tree) RenameBack() (moved bool, err error) {
	from, to, err := t.roots()
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer from.Close()
	defer to.Close()
	names, err := t.names(to)
	if err != nil || len(names) == 0 {
		return false, err
	}
	if err := rename(to, from, t.names); err != nil {
		return true, fmt.Errorf("rename back from %s to %s: %w", t.To, t.From, err)
	}
	return true, nil
}

// Renamed reports whether To has anything that moves.
func (t *Tree) Renamed() (bool, error) {
	to, err := t.Host.OpenRoot(t.To)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer to.Close()
	names, err := t.names(to)
	return len(names) > 0, err
}

func rename(from, to *os.Root, ours func(*os.Root) ([]string, error)) error {
	names, err := ours(from)
	if err != nil {
		return err
	}
	a, err := from.Open(".")
	if err != nil {
		return err
	}
	defer a.Close()
	b, err := to.Open(".")
	if err != nil {
		return err
	}
	defer b.Close()
	for _, name := range names {
		if err := renameNew(a, b, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return errors.Join(durable.SyncRoot(to), durable.SyncRoot(from))
}

// renameNew does not replace. Some file systems know no way to rename that does not.
func renameNew(from, to *os.File, name string) error {
	err := unix.Renameat2(int(from.Fd()), name, int(to.Fd()), name, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EINVAL) {
		var there unix.Stat_t
		if err := unix.Fstatat(int(to.Fd()), name, &there, unix.AT_SYMLINK_NOFOLLOW); err == nil {
			return unix.EEXIST
		}
		err = unix.Renameat(int(from.Fd()), name, int(to.Fd()), name)
	}
	return err
}

// Remove removes from a directory, From or To, what a copy has or had there. Nothing else in it goes.
func (t *Tree) Remove(ctx context.Context, at string) error {
	dir, err := t.Host.OpenRoot(at)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil
	}
	if err != nil {
		return err
	}
	names, err := t.names(dir)
	if err = errors.Join(err, dir.Close()); err != nil {
		return err
	}
	for _, name := range names {
		if _, err := t.Host.RemoveTree(ctx, path.Join(at, name)); err != nil {
			return err
		}
	}
	return nil
}

// Damaged are the blobs that Copy has found not to be what their digests say. They are copied as they
// are.
func (t *Tree) Damaged() []string { return t.damaged }

// Copy makes To's entries like From's, and brings them to the disk. Files that go, come and change
// meanwhile are those of the next call.
func (t *Tree) Copy(ctx context.Context) error {
	from, to, err := t.roots()
	if err != nil {
		return err
	}
	defer from.Close()
	defer to.Close()
	disk, err := to.Open(".") // before the first write: a sync by it reports the failures of all of them
	if err != nil {
		return err
	}
	defer disk.Close()
	if t.seen == nil {
		t.seen = map[string]look{}
	}
	t.done, t.damaged = Size{}, nil
	names, err := t.names(from)
	if err != nil {
		return err
	}
	there, err := t.names(to)
	if err != nil {
		return err
	}
	c := &copying{Tree: t, from: from, to: to, began: time.Now(), buffers: [2][]byte{make([]byte, block), make([]byte, block)}}
	if err := c.entries(ctx, "", names, there); err != nil {
		return fmt.Errorf("copy %s to %s: %w", t.From, t.To, err)
	}
	if err := unix.Syncfs(int(disk.Fd())); err != nil {
		return fmt.Errorf("copy %s to %s: bring it to the disk: %w", t.From, t.To, err)
	}
	return nil
}

// entries copies names, and removes those of there that are not among them.
func (c *copying) entries(ctx context.Context, dir string, names, there []string) error {
	for _, name := range there {
		if !slices.Contains(names, name) {
			if err := c.to.RemoveAll(path.Join(dir, name)); err != nil {
				return err
			}
		}
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return err
		}
		err := c.entry(ctx, path.Join(dir, name))
		if errors.Is(err, errGone) {
			err = c.to.RemoveAll(path.Join(dir, name))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

var errGone = errors.New("it was removed meanwhile")

func (c *copying) entry(ctx context.Context, name string) error {
	info, err := c.from.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return err
	}
	if there, err := c.to.Lstat(name); err == nil && there.Mode().Type() != info.Mode().Type() {
		if err := c.to.RemoveAll(name); err != nil {
			return err
		}
	}
	switch {
	case info.IsDir():
		return c.directory(ctx, name, info)
	case info.Mode()&fs.ModeSymlink != 0:
		return c.link(name, info)
	case !info.Mode().IsRegular():
		return fmt.Errorf("%s is neither a file nor a directory", name)
	}
	return c.file(ctx, name)
}

func (c *copying) directory(ctx context.Context, name string, info fs.FileInfo) error {
	if err := c.to.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	names, err := namesIn(c.from, name)
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return err
	}
	there, err := namesIn(c.to, name)
	if err != nil {
		return err
	}
	if err := c.entries(ctx, name, names, there); err != nil {
		return err
	}
	f, err := c.to.OpenFile(name, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(alike(f, info), f.Close())
}

func namesIn(root *os.Root, dir string) (names []string, err error) {
	f, err := root.OpenFile(dir, os.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	names, err = f.Readdirnames(-1)
	slices.Sort(names)
	return names, errors.Join(err, f.Close())
}

func (c *copying) link(name string, info fs.FileInfo) error {
	target, err := c.from.Readlink(name)
	if err != nil {
		return err
	}
	if there, err := c.to.Readlink(name); err == nil && there == target {
		return nil
	}
	if err := durable.IgnoreMissing(c.to.Remove(name)); err != nil {
		return err
	}
	if err := c.to.Symlink(target, name); err != nil {
		return err
	}
	st := info.Sys().(*syscall.Stat_t)
	return c.to.Lchown(name, int(st.Uid), int(st.Gid))
}
