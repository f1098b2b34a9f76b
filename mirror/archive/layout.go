package archive

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// layout is the chunks of an archive that is written, and which parts of them are taken. A part is
// reserved before it is written, since the size of content is known: several blobs are written at
// the same time, each to its place. A layout is used under the lock of its writer; the regions that
// it gives out are not.
type layout struct {
	dir     string
	limit   int64 // of a chunk's file
	created time.Time
	chunks  []*chunk
	added   func(c *chunk) error // notes a new chunk
}

// chunk is one file of an archive.
type chunk struct {
	number int
	alone  bool // for one entry, which is larger than the limit
	file   *os.File
	end    int64
	gaps   []gap // unused parts before the end, by offset, none beside another
}

// gap is an unused part of a chunk, in whole blocks.
type gap struct{ offset, length int64 }

// region is a part of a chunk that is reserved for an entry: its header, its content and the
// padding.
type region struct {
	*chunk
	gap
}

// infoLength is the length of chunkEntry, header and content.
const infoLength = 2 * block

// largest bounds an entry. A manifest may claim any size.
const largest = 64 << 40

// reserve returns a region for an entry, in a gap if one is large enough. alone reports that the
// entry is larger than a chunk may be, and has one of its own.
func (l *layout) reserve(length int64) (r *region, alone bool, err error) {
	if length < block || length > largest {
		return nil, false, fmt.Errorf("an entry of %d bytes is larger than any file", length)
	}
	for _, c := range l.chunks {
		for i, g := range c.gaps {
			if g.length >= length {
				c.gaps[i] = gap{g.offset + length, g.length - length}
				if c.gaps[i].length == 0 {
					c.gaps = slices.Delete(c.gaps, i, i+1)
				}
				return &region{c, gap{g.offset, length}}, false, nil
			}
		}
	}
	alone = infoLength+length+trailer > l.limit
	c := l.current()
	if alone {
		c = l.emptyAlone()
	}
	if c == nil || !alone && c.end+length+trailer > l.limit {
		if c, err = l.add(alone); err != nil {
			return nil, false, err
		}
	}
	r = &region{c, gap{c.end, length}}
	c.end += length
	return r, alone, nil
}

// current returns the chunk that is filled, nil if there is none.
func (l *layout) current() *chunk {
	for _, c := range slices.Backward(l.chunks) {
		if !c.alone {
			return c
		}
	}
	return nil
}

// emptyAlone returns a chunk for one entry that did not come, nil if there is none.
func (l *layout) emptyAlone() *chunk {
	for _, c := range l.chunks {
		if c.alone && c.end == infoLength {
			return c
		}
	}
	return nil
}

// add begins a chunk.
func (l *layout) add(alone bool) (*chunk, error) {
	c := &chunk{number: len(l.chunks) + 1, alone: alone, end: infoLength}
	var err error
	if c.file, err = os.OpenFile(filepath.Join(l.dir, partialName(c.number)),
		os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644); err != nil {
		return nil, writeError(err)
	}
	if err := l.added(c); err != nil {
		return nil, errors.Join(err, c.file.Close())
	}
	l.chunks = append(l.chunks, c)
	return c, nil
}

// release makes a region a gap, and a hole of the file where that can have holes: what is written
// there next is told from it.
func (l *layout) release(r *region) {
	c := r.chunk
	_ = unix.Fallocate(int(c.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, r.offset, r.length)
	i, _ := slices.BinarySearchFunc(c.gaps, r.gap, func(a, b gap) int { return cmp.Compare(a.offset, b.offset) })
	c.gaps = slices.Insert(c.gaps, i, r.gap)
	if i+1 < len(c.gaps) && c.gaps[i].end() == c.gaps[i+1].offset {
		c.gaps[i].length += c.gaps[i+1].length
		c.gaps = slices.Delete(c.gaps, i+1, i+2)
	}
	if i > 0 && c.gaps[i-1].end() == c.gaps[i].offset {
		c.gaps[i-1].length += c.gaps[i].length
		c.gaps = slices.Delete(c.gaps, i, i+1)
	}
	if last := len(c.gaps) - 1; c.gaps[last].end() == c.end {
		c.end = c.gaps[last].offset
		c.gaps = c.gaps[:last]
	}
}

func (g gap) end() int64 { return g.offset + g.length }

// mark returns a function that takes back what is reserved from now on. No region that is reserved
// before may be written meanwhile.
func (l *layout) mark() (back func() error) {
	n := len(l.chunks)
	var ends []int64
	var gaps [][]gap
	for _, c := range l.chunks {
		ends, gaps = append(ends, c.end), append(gaps, slices.Clone(c.gaps))
	}
	return func() (err error) {
		for _, c := range l.chunks[n:] {
			err = errors.Join(err, c.file.Close(), os.Remove(c.file.Name()))
		}
		l.chunks = l.chunks[:n]
		for i, c := range l.chunks {
			c.end, c.gaps = ends[i], gaps[i]
		}
		return err
	}
}

// seal completes the chunks: their first entries, entries for the gaps, and the ends.
func (l *layout) seal(h chunkHeader) error {
	h.Chunks = len(l.chunks)
	for _, c := range l.chunks {
		h.Number = c.number
		if err := l.sealChunk(c, h); err != nil {
			return writeError(err)
		}
	}
	return nil
}

func (l *layout) sealChunk(c *chunk, h chunkHeader) error {
	info, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if len(info) >= block {
		return fmt.Errorf("%s is too large", chunkEntry)
	}
	data := append(info, slices.Repeat([]byte{' '}, block-len(info))...)
	data[block-1] = '\n'
	head, err := header(chunkEntry, block, l.created)
	if err != nil {
		return err
	}
	if _, err := c.file.WriteAt(append(head, data...), 0); err != nil {
		return err
	}
	for _, g := range c.gaps {
		head, err := unusedHeader(g.length-block, l.created)
		if err != nil {
			return err
		}
		if _, err := c.file.WriteAt(head, g.offset); err != nil {
			return err
		}
	}
	// What was written after the end goes, and the end is zeros.
	if err := c.file.Truncate(c.end); err != nil {
		return err
	}
	if err := c.file.Truncate(c.end + trailer); err != nil {
		return err
	}
	return c.file.Sync()
}

// close closes the files.
func (l *layout) close() (err error) {
	for _, c := range l.chunks {
		if c.file != nil {
			err = errors.Join(err, c.file.Close())
			c.file = nil
		}
	}
	return err
}

// refusedError is a write that fails again however often it is tried.
type refusedError struct{ error }

func (e *refusedError) Unwrap() error { return e.error }

// Refused reports true: the file system has answered.
func (e *refusedError) Refused() bool { return true }

// writeError is the error of writing to the medium.
func writeError(err error) error {
	wrapped := fmt.Errorf("write the archive: %w", err)
	switch {
	case errors.Is(err, syscall.EFBIG):
		return &refusedError{hint.New(wrapped,
			"the file system cannot have a file that large (FAT32 ends at 4 GiB): set archiveSize: 3 in the image set configuration")}
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return &refusedError{hint.New(wrapped,
			"free space there, or name a directory with more of it, and run the same command again: what is written is kept")}
	case errors.Is(err, syscall.EROFS), errors.Is(err, os.ErrPermission):
		return &refusedError{hint.New(wrapped, "name a directory that you may write to: file://DIR")}
	}
	return wrapped
}
