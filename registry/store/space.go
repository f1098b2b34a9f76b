package store

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// keptFree is what pushes leave of a file system at least, or an eighth of it if that is less. A
	// transaction needs space even when it deletes; with none left, nobody could delete an image to make some.
	keptFree = 32 << 20

	// reserved is the size of the file that is given up when others have filled the disk all the same, or
	// a sixteenth of the file system if that is less. The WAL of the largest deleting transaction fits.
	reserved = 16 << 20

	// reserveStep is how much of it is given up at a time: as little as helps, since whoever filled the disk
	// may take the rest.
	reserveStep = 256 << 10

	// spaceEvery is how many bytes are written between two looks at the free space.
	spaceEvery = 1 << 20

	// keptInodes is how many inodes pushes leave free, or a sixteenth of them if that is less. A file system without
	// inodes for new files is full, however many bytes are free.
	keptInodes = 1024

	// blobInodes is what a blob may need: its bytes, the session's state and its successor, a directory.
	blobInodes = 4
)

// space looks at how much of a file system is free. Everything that asks whether there is space for content asks it.
type space struct {
	statfs   func(path string) (free, total int64, err error)
	minFree  int64                                            // what pushes leave free, if it is more than keptFree
	reusable func(path string) int64                          // what is free within files there; nil: nothing
	inodes   func(path string) (free, total int64, err error) // nil: not counted
}

func statfs(path string) (free, total int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, err
	}
	return int64(fs.Bavail) * fs.Bsize, int64(fs.Blocks) * fs.Bsize, nil
}

// inodes is how many files a file system has room for. A total of 0 means that it has no such limit, as btrfs has none.
func inodes(path string) (free, total int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, err
	}
	return int64(fs.Ffree), int64(fs.Files), nil
}

// checkInodes fails with a *FullError when the file system of path has no inodes to spare for a blob.
func (s space) checkInodes(path string) error {
	if s.inodes == nil {
		return nil
	}
	free, total, err := s.inodes(path)
	if err != nil {
		return fmt.Errorf("look at the free inodes of %s: %w", path, err)
	}
	if keep := keptOf(total); total > 0 && free < keep+blobInodes {
		return &FullError{Path: path, Inodes: true, Err: fmt.Errorf(
			"%d inodes are free, %d of them are kept so that images can still be deleted: %w", free, keep, syscall.ENOSPC)}
	}
	return nil
}

// keptOf is how many of a file system's inodes pushes leave free.
func keptOf(total int64) int64 { return min(keptInodes, total/16) }

// check fails with a *FullError when the file system of path has no need bytes to spare.
func (s space) check(path string, need int64) error {
	free, total, err := s.statfs(path)
	if err != nil {
		return fmt.Errorf("look at the free space of %s: %w", path, err)
	}
	keep := s.kept(total)
	if need+keep > free {
		free += s.within(path)
	}
	if short := need + keep - free; short > 0 {
		return &FullError{Path: path, Short: short, Err: fmt.Errorf(
			"%d bytes are free, %d of them are kept so that images can still be deleted: %w", free, keep, syscall.ENOSPC)}
	}
	return nil
}

// within is what is free within files on the file system of path.
func (s space) within(path string) int64 {
	if s.reusable == nil {
		return 0
	}
	return s.reusable(path)
}

// kept is how much of a file system pushes leave free.
func (s space) kept(total int64) int64 { return max(min(keptFree, total/8), s.minFree) }

// CheckSpace fails with a *FullError when a push would be refused, however small, because the disk is full.
func (s *Store) CheckSpace() error { return s.checkNewFile(0) }

// checkSpace fails with a *FullError when there is not so much space for another blob's bytes, or none for its row.
func (s *Store) checkSpace(need int64) error {
	if err := s.space.check(s.files.Root(), need); err != nil {
		return err
	}
	return s.space.check(s.database, 0)
}

// checkNewFile is checkSpace for a blob that needs files of its own.
func (s *Store) checkNewFile(need int64) error {
	if err := s.space.checkInodes(s.files.Root()); err != nil {
		return err
	}
	return s.checkSpace(need)
}

// reserve is a file beside the database that is there only to be given up: on a disk that is full to the
// last byte, deleting it is how a transaction gets the space that it needs to delete something else.
type reserve struct {
	path  string
	space space

	mu sync.Mutex // one change of the file at a time
}

// fill makes the file, if it is not there and there is space to spare for it.
func (r *reserve) fill() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	defer f.Close()
	_, total, err := r.space.statfs(r.path)
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	size := min(reserved, total/16)
	if info.Size() >= size || r.space.check(r.path, size-info.Size()) != nil {
		return nil
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return errors.Join(fmt.Errorf("reserve space: %w", err), f.Truncate(info.Size()))
	}
	return nil
}

// spend gives some of the space up, and says whether there was any. It gives up none where all of it would not do: so
// many bytes are short, 0 when nobody knows.
func (r *reserve) spend(short int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Lstat(r.path)
	return err == nil && info.Size() > 0 && info.Size() >= short && os.Truncate(r.path, max(0, info.Size()-reserveStep)) == nil
}

// freeing runs what deletes something. When the disk is too full even for that, it gives up some of the
// reserve and runs it again.
func (s *Store) freeing(do func() error) error {
	for {
		err := do()
		var full *FullError
		if !errors.As(err, &full) || !s.reserve.spend(full.Short) {
			return err
		}
		s.log.Warn("the disk is full: gave up reserved space so that images can be deleted", "path", s.reserve.path)
	}
}

// refill reserves space again, after some was freed. It is no reason to fail.
func (s *Store) refill() {
	if err := s.reserve.fill(); err != nil {
		s.log.Warn("could not reserve space for deleting on a full disk", "path", s.reserve.path, "error", err)
	}
}
