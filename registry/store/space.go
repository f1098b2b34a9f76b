package store

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// keptFree is what pushes leave of a file system, or an eighth of it if that is less. A transaction
	// needs space even when it deletes; with none left, nobody could delete an image to make some.
	keptFree = 32 << 20

	// spaceEvery is how many bytes are written between two looks at the free space.
	spaceEvery = 1 << 20
)

// space looks at how much of a file system is free.
type space struct {
	statfs func(path string) (free, total int64, err error)
}

func statfs(path string) (free, total int64, err error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(path, &fs); err != nil {
		return 0, 0, err
	}
	return int64(fs.Bavail) * fs.Bsize, int64(fs.Blocks) * fs.Bsize, nil
}

// check fails with a *FullError when the file system of path has no need bytes to spare.
func (s space) check(path string, need int64) error {
	free, total, err := s.statfs(path)
	if err != nil {
		return fmt.Errorf("look at the free space of %s: %w", path, err)
	}
	keep := min(keptFree, total/8)
	if short := need + keep - free; short > 0 {
		return &FullError{Path: path, Short: short, Err: fmt.Errorf(
			"%d bytes are free, %d of them are kept so that images can still be deleted: %w", free, keep, syscall.ENOSPC)}
	}
	return nil
}
