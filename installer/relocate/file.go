package relocate

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// block is how much is read, compared and written at once.
const block = 1 << 20

// copying is one call of Copy.
type copying struct {
	*Tree
	from, to *os.Root
	began    time.Time
	buffers  [2][]byte
}

// file copies a file that has changed since an earlier call.
func (c *copying) file(ctx context.Context, name string) error {
	if strings.HasSuffix(name, skipped) {
		return errGone
	}
	f, err := c.from.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return errGone
	}
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", name)
	}
	now := lookOf(info)
	there, err := c.to.Lstat(name)
	exists := err == nil
	if was, ok := c.seen[name]; !ok || was != now || !exists || there.Size() != info.Size() {
		if err := c.content(ctx, name, f, info, exists && there.Size() == info.Size()); err != nil {
			if at := new(fs.PathError); errors.As(err, &at) {
				err = at.Err // its path is by a descriptor
			}
			return fmt.Errorf("%s: %w", name, err)
		}
		delete(c.seen, name)
		if c.settled(now) {
			c.seen[name] = now
		}
	} else {
		c.went(info.Size())
	}
	c.done.Files++
	return nil
}

// settled reports whether a change that comes while the file is read would be seen: the clock of file
// systems has ticks.
func (c *copying) settled(l look) bool {
	return time.Unix(l.ctime.Unix()).Before(c.began.Add(-time.Second))
}

func lookOf(info fs.FileInfo) look {
	st := info.Sys().(*syscall.Stat_t)
	return look{st.Ino, st.Size, unix.Timespec(st.Mtim), unix.Timespec(st.Ctim)}
}

// content brings one file over.
func (c *copying) content(ctx context.Context, name string, f *os.File, info fs.FileInfo, whole bool) error {
	sum, digest := blobHash(name)
	if digest != "" && whole {
		if same, err := c.has(ctx, name, sum, digest, info); err != nil || same {
			return err
		}
		sum.Reset()
	}
	if digest == "" {
		if followed, err := c.follow(ctx, name, f, info); followed || err != nil {
			return err
		}
	}
	tmp := path.Join(path.Dir(name), temporary+path.Base(name))
	if err := c.to.RemoveAll(tmp); err != nil {
		return err
	}
	out, err := c.to.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	if err = unix.IoctlFileClone(int(out.Fd()), int(f.Fd())); err == nil {
		c.went(info.Size())
	} else {
		err = c.pour(ctx, name, f, out, sum, digest)
	}
	if err == nil {
		err = alike(out, info)
	}
	if err = errors.Join(err, out.Close()); err == nil {
		err = c.to.Rename(tmp, name)
	}
	if err != nil {
		return errors.Join(err, c.to.RemoveAll(tmp))
	}
	return nil
}

// blobHash returns how to hash a blob, and its digits; "" for another file.
func blobHash(name string) (hash.Hash, string) {
	base := path.Base(name)
	switch algorithm, _, _ := strings.Cut(name, "/"); {
	case algorithm == "sha256" && len(base) == 2*sha256.Size:
		return sha256.New(), base
	case algorithm == "sha512" && len(base) == 2*sha512.Size:
		return sha512.New(), base
	}
	return nil, ""
}

// has reports whether To has a blob, as a copy that was killed has left it.
func (c *copying) has(ctx context.Context, name string, sum hash.Hash, digest string, info fs.FileInfo) (bool, error) {
	f, err := c.to.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	began := c.done.Bytes
	for {
		n, err := f.Read(c.buffers[0])
		sum.Write(c.buffers[0][:n])
		c.went(int64(n))
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return false, err
		}
	}
	if hex.EncodeToString(sum.Sum(nil)) == digest {
		return true, alike(f, info)
	}
	c.done.Bytes = began
	return false, nil
}

// pour copies a file from its beginning, and hashes it if it is a blob.
func (c *copying) pour(ctx context.Context, name string, from, to *os.File, sum hash.Hash, digest string) error {
	for {
		n, err := from.Read(c.buffers[0])
		if _, werr := to.Write(c.buffers[0][:n]); werr != nil {
			return werr
		}
		if sum != nil {
			sum.Write(c.buffers[0][:n])
		}
		c.went(int64(n))
		if errors.Is(err, io.EOF) {
			break
		}
		if err = errors.Join(err, ctx.Err()); err != nil {
			return err
		}
	}
	if sum != nil && hex.EncodeToString(sum.Sum(nil)) != digest {
		c.damaged = append(c.damaged, name)
	}
	return nil
}

// follow changes the blocks in which the file at To differs, and then its length. It reports false if
// there is no file that is To's alone: another name of one may be in a directory of root's.
func (c *copying) follow(ctx context.Context, name string, from *os.File, info fs.FileInfo) (followed bool, err error) {
	to, err := c.to.OpenFile(name, os.O_RDWR|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if there, err := to.Stat(); err != nil || there.Sys().(*syscall.Stat_t).Nlink > 1 {
		return false, errors.Join(err, to.Close())
	}
	if err = c.blocks(ctx, from, to); err == nil {
		err = alike(to, info)
	}
	return true, errors.Join(err, to.Close())
}

func (c *copying) blocks(ctx context.Context, from, to *os.File) error {
	at := int64(0)
	for {
		n, rerr := io.ReadFull(from, c.buffers[0])
		have := c.buffers[1][:n]
		m, err := to.ReadAt(have, at)
		if errors.Is(err, io.EOF) {
			err = nil
		}
		if err == nil && !bytes.Equal(have[:m], c.buffers[0][:n]) {
			_, err = to.WriteAt(c.buffers[0][:n], at)
		}
		at += int64(n)
		c.went(int64(n))
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) {
			rerr = nil
		}
		if err = errors.Join(err, rerr, ctx.Err()); err != nil {
			return err
		}
		if n < block {
			return to.Truncate(at)
		}
	}
}

// went counts bytes.
func (c *copying) went(n int64) {
	c.done.Bytes += n
	if c.Progress != nil {
		c.Progress(c.done)
	}
}

// alike gives a file or a directory owner, mode and time of another.
func alike(f *os.File, info fs.FileInfo) error {
	st := info.Sys().(*syscall.Stat_t)
	var have syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &have); err != nil {
		return err
	}
	if have.Uid != st.Uid || have.Gid != st.Gid {
		if err := f.Chown(int(st.Uid), int(st.Gid)); err != nil {
			return err
		}
	}
	if err := f.Chmod(info.Mode() & (fs.ModePerm | fs.ModeSetgid | fs.ModeSticky)); err != nil {
		return err
	}
	return os.Chtimes(fmt.Sprintf("/proc/self/fd/%d", f.Fd()), info.ModTime(), info.ModTime())
}
