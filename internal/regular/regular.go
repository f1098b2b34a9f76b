// Package regular reads small files that a configuration names, such as certificates and
// credentials. A path may lead to a FIFO, whose reading waits for good, or to a device, whose
// content has no end: both are refused before they are read.
package regular

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// maxSize is how many bytes a file has at most; the bundle of a system's authorities has 250 KiB.
const maxSize = 1 << 20

// ErrRefused is in the error of a file that is not read whatever it holds.
var ErrRefused = errors.New("only regular files of a bounded size are read")

// refusedError says why a file is not read.
type refusedError struct{ File, Reason string }

func (e *refusedError) Error() string { return e.File + ": " + e.Reason }
func (e *refusedError) Unwrap() error { return ErrRefused }

// ReadFile reads a regular file of at most maxSize bytes.
func ReadFile(file string) ([]byte, error) { return ReadFileUpTo(file, maxSize) }

// ReadFileUpTo reads a regular file of at most so many bytes.
func ReadFileUpTo(file string, most int64) ([]byte, error) { return read(file, most, 0) }

// ReadSecret is ReadFile for a file that no other user may read or write.
func ReadSecret(file string) ([]byte, error) { return read(file, maxSize, 0o077) }

// read refuses a file with one of the modes.
func read(file string, most int64, refused fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(file, os.O_RDONLY|unix.O_NONBLOCK, 0) // a FIFO would have it wait for a writer
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &refusedError{file, "it is not a regular file"}
	}
	if mode := info.Mode().Perm(); mode&refused != 0 {
		return nil, &refusedError{file, fmt.Sprintf("other users may read or write it (mode %04o)", mode)}
	}
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil && int64(len(data)) > most {
		return nil, &refusedError{file, fmt.Sprintf("it is larger than %d KiB", most>>10)}
	}
	return data, err
}

// Reason returns why a file could not be read, without the name of the file.
func Reason(err error) error {
	var path *fs.PathError
	var refused *refusedError
	switch {
	case errors.As(err, &path):
		return path.Err
	case errors.As(err, &refused):
		return errors.New(refused.Reason)
	}
	return err
}
