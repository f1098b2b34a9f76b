// Package diskspace decides whether a file system is full: one threshold for pushes,
// health and maintenance.
//
// Use a Checker before content is written, and Full on the error of a write.
//
// Refused: a share of the file system as the threshold. What a deleting transaction needs does not
// grow with the disk, and five percent of 10 TB are 500 GB that nothing could use.
package diskspace

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"
)

const (
	// Least is what pushes leave free at least, or an eighth of the file system if that
	// is less. A transaction needs space even when it deletes: without any, no image
	// could be deleted to make some.
	Least = 32 << 20

	// leastInodes is how many inodes pushes leave free, or a sixteenth of them if that is less. A
	// file system without inodes for new files is full, however many bytes are free.
	leastInodes = 1024

	// blobInodes is what a blob may need: its bytes, the session's state, its
	// successor, a directory.
	blobInodes = 4
)

// FullError says that the file system of Path has no space left, or its user no quota.
type FullError struct {
	Path  string
	Short int64 // how many bytes were still to be written; 0 when that is unknown
	Err   error

	Inodes bool // inodes are missing, not bytes
}

func (e *FullError) Error() string {
	if e.Inodes {
		return fmt.Sprintf("no inodes left for %s: %v", e.Path, e.Err)
	}
	if e.Short > 0 {
		return fmt.Sprintf("no space left for %s: %s short: %v", e.Path, humanize.IBytes(uint64(e.Short)), e.Err)
	}
	return fmt.Sprintf("no space left for %s: %v", e.Path, e.Err)
}

func (e *FullError) Unwrap() error { return e.Err }

// Hint returns what to do next.
func (e *FullError) Hint() string {
	if e.Inodes {
		return "remove small files from the file system of " + e.Path +
			", delete images that are no longer needed and run `appliance gc`, or make the file system anew with more inodes (df -i " + e.Path + ")"
	}
	return "free space on the file system of " + e.Path +
		": delete images that are no longer needed and run `appliance gc`, or enlarge the file system (df -h " + e.Path + ")"
}

// Full returns a *FullError that names path if err says that there is no space or no quota left,
// and err otherwise. short is how many bytes were still to be written, 0 when that is unknown.
func Full(path string, short int64, err error) error {
	if errors.As(err, new(*FullError)) {
		return err
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return &FullError{Path: path, Short: short, Err: err}
	}
	return err
}

// Checker compares what is free with what has to stay free.
type Checker struct {
	Bytes    func(path string) (free, total int64, err error)
	Inodes   func(path string) (free, total int64, err error) // nil: not counted
	Reusable func(path string) int64                          // what is free within files there; nil: nothing
	MinFree  int64                                            // what stays free, if it is more than Least
}

// Bytes returns how much of the file system of path is free.
func Bytes(path string) (free, total int64, err error) {
	fs, err := statfs(path)
	size := int64(fs.Bsize) // of 32 bits on s390x
	return int64(fs.Bavail) * size, int64(fs.Blocks) * size, err
}

// Inodes returns the free inodes of the file system of path. A total of 0 means no limit (btrfs).
func Inodes(path string) (free, total int64, err error) {
	fs, err := statfs(path)
	return int64(fs.Ffree), int64(fs.Files), err
}

func statfs(path string) (fs unix.Statfs_t, err error) {
	if err := unix.Statfs(path, &fs); err != nil {
		return unix.Statfs_t{}, fmt.Errorf("look at the free space of %s: %w", path, err)
	}
	return fs, nil
}

// Check returns a *FullError unless the file system of path has need bytes to spare.
func (c Checker) Check(path string, need int64) error {
	free, total, err := c.Bytes(path)
	if err != nil {
		return err
	}
	keep := Kept(total, c.MinFree)
	if need+keep > free {
		free += c.reusable(path)
	}
	if short := need + keep - free; short > 0 {
		return &FullError{Path: path, Short: short, Err: fmt.Errorf(
			"%d bytes are free, %d of them are kept so that images can still be deleted: %w", free,
			keep, syscall.ENOSPC)}
	}
	return nil
}

// CheckInodes returns a *FullError unless the file system of path has inodes to spare for a blob.
func (c Checker) CheckInodes(path string) error {
	if c.Inodes == nil {
		return nil
	}
	free, total, err := c.Inodes(path)
	if err != nil {
		return err
	}
	if keep := keptInodes(total); total > 0 && free < keep+blobInodes {
		return &FullError{Path: path, Inodes: true, Err: fmt.Errorf(
			"%d inodes are free, %d of them are kept so that images can still be deleted: %w", free,
			keep, syscall.ENOSPC)}
	}
	return nil
}

// Space is how much of the file system of a path is free.
type Space struct {
	Path  string
	Total int64 // bytes
	Free  int64 // bytes, with those that are free within the database
	Kept  int64 // bytes of it that pushes leave free

	// Of its inodes. Inodes is 0 for a file system that has no limit, as btrfs has none.
	Inodes, FreeInodes, KeptInodes int64
}

// Space returns how much of the file system of path is free.
func (c Checker) Space(path string) (Space, error) {
	free, total, err := c.Bytes(path)
	if err != nil {
		return Space{}, err
	}
	freeInodes, inodes, err := c.Inodes(path)
	if err != nil {
		return Space{}, err
	}
	return Space{Path: path, Total: total, Free: free + c.reusable(path), Kept: Kept(total, c.MinFree),
		Inodes: inodes, FreeInodes: freeInodes, KeptInodes: keptInodes(inodes)}, nil
}

func (c Checker) reusable(path string) int64 {
	if c.Reusable == nil {
		return 0
	}
	return c.Reusable(path)
}

// Kept returns how many bytes of a file system pushes leave free, with minFree of the configuration.
func Kept(total, minFree int64) int64 { return max(min(Least, total/8), minFree) }

func keptInodes(total int64) int64 { return min(leastInodes, total/16) }

// Same reports whether two paths are on one file system.
func Same(a, b string) (bool, error) {
	var x, y syscall.Stat_t
	if err := errors.Join(syscall.Stat(a, &x), syscall.Stat(b, &y)); err != nil {
		return false, fmt.Errorf("look at the file systems of %s and %s: %w", a, b, err)
	}
	return x.Dev == y.Dev, nil
}
