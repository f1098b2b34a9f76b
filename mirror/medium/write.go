package medium

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
)

// temporary matches the names of files that are being written.
const temporary = ".medium.*.tmp"

// Writer writes a medium.
type Writer struct {
	dir  string
	sums []entry
}

// Create begins a medium in a directory, which has no list of checksums until Close.
func Create(dir string) (*Writer, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := os.Remove(filepath.Join(dir, Sums)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, err
	}
	for _, pattern := range []string{temporary, "*/" + temporary} { // of runs that were killed
		left, _ := filepath.Glob(filepath.Join(dir, pattern)) // the pattern is right
		for _, path := range left {
			if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
				return nil, err
			}
		}
	}
	return &Writer{dir: dir}, os.RemoveAll(filepath.Join(dir, filesDir)) // of a medium before
}

// Put writes a small file.
func (w *Writer) Put(ctx context.Context, name string, content []byte) error {
	return w.write(ctx, name, 0o644, strings.NewReader(string(content)))
}

// Program copies a program.
func (w *Writer) Program(ctx context.Context, name, from string) error {
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	return w.write(ctx, name, 0o755, f)
}

// CheckName returns an error unless a file of this name can be served.
func CheckName(name string) error {
	if err := image.CheckTag(name); err != nil || piece.MatchString(name) {
		return hint.New(fmt.Errorf("%q is not a name that a file on a medium can have", name),
			"letters, digits, . _ and -, at most 128 of them: give it another name with name:")
	}
	return nil
}

// File copies a file for the far side, in pieces of at most most bytes; 0 is any number.
func (w *Writer) File(ctx context.Context, name, from string, most int64) error {
	if err := CheckName(name); err != nil {
		return err
	}
	f, err := os.Open(from)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	name = filesDir + "/" + name
	if most <= 0 || info.Size() <= most {
		return w.write(ctx, name, 0o644, f)
	}
	pieces := (info.Size() + most - 1) / most
	if pieces > 9999 {
		return hint.New(fmt.Errorf("%s would have %d pieces", from, pieces), "a larger --archive-size")
	}
	for n := range pieces {
		at := fmt.Sprintf("%s.part-%04d-of-%04d", name, n+1, pieces)
		if err := w.write(ctx, at, 0o644, io.LimitReader(f, most)); err != nil {
			return err
		}
	}
	return nil
}

func (w *Writer) write(ctx context.Context, name string, mode os.FileMode, from io.Reader) (err error) {
	at := filepath.Join(w.dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(at), 0o755); err != nil {
		return err
	}
	tmp, err := os.OpenFile(filepath.Join(filepath.Dir(at), strings.Replace(temporary, "*", rand.Text(), 1)), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	h := sha256.New()
	_, err = io.Copy(io.MultiWriter(tmp, h), &reader{ctx, from})
	if err = durable.Finish(tmp, err); err == nil {
		err = os.Rename(tmp.Name(), at)
	}
	if err != nil {
		err = errors.Join(fmt.Errorf("write %s: %w", at, err), os.Remove(tmp.Name()))
		if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EFBIG) {
			return hint.New(err, "free space on the medium (df -h "+w.dir+"); a file system that takes no file of this size needs a smaller --archive-size")
		}
		return err
	}
	w.sums = append(w.sums, entry{hex.EncodeToString(h.Sum(nil)), name})
	return nil
}

// Close adds the checksums of the archive, and writes the list, which makes the medium whole.
func (w *Writer) Close(ctx context.Context, tell func(name string)) error {
	chunks, err := filepath.Glob(filepath.Join(w.dir, "mirror_*.tar"))
	if err != nil {
		return err
	}
	for _, at := range chunks {
		tell(filepath.Base(at))
		f, err := os.Open(at)
		if err != nil {
			return err
		}
		h := sha256.New()
		_, err = io.Copy(h, &reader{ctx, f})
		if err = errors.Join(err, f.Close()); err != nil {
			return fmt.Errorf("read %s: %w", at, err)
		}
		w.sums = append(w.sums, entry{hex.EncodeToString(h.Sum(nil)), filepath.Base(at)})
	}
	slices.SortFunc(w.sums, func(a, b entry) int { return strings.Compare(a.name, b.name) })
	var text strings.Builder
	for _, e := range w.sums {
		fmt.Fprintf(&text, "%s  %s\n", e.sum, e.name)
	}
	return w.write(ctx, Sums, 0o644, strings.NewReader(text.String()))
}
