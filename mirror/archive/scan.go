package archive

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/mirror-appliance/appliance/internal/image"
)

// Bounds of an archive, against one that was made to exhaust this host.
const (
	maxEntries  = 4 << 20
	maxName     = 4 << 10
	maxContents = 1 << 30
	maxLink     = 256
)

// span is the content of an entry in a chunk.
type span struct {
	*chunkFile
	offset, size int64
}

// chunkFile is a chunk that is read.
type chunkFile struct {
	path   string
	number int
	reader io.ReaderAt
	length int64
	header *chunkHeader // nil: oc-mirror's

	sequence int                             // of an archive of oc-mirror v1; 0: another
	link     func(name, target string) error // takes the links of version 1; nil passes over them
}

// damaged is an error about a chunk.
func (c *chunkFile) damaged(format string, args ...any) error {
	return fmt.Errorf("%s is damaged: %w", c.path, fmt.Errorf(format, args...))
}

// read reads a small entry.
func (s span) read(limit int64) ([]byte, error) {
	if s.size > limit {
		return nil, fmt.Errorf("%s: an entry has %d bytes, more than %d", s.path, s.size, limit)
	}
	data := make([]byte, s.size)
	if _, err := s.reader.ReadAt(data, s.offset); err != nil && !(errors.Is(err, io.EOF) && s.size == 0) {
		return nil, fmt.Errorf("read %s: %w", s.path, err)
	}
	return data, nil
}

// scan visits the entries of a chunk that are files, in order. It reads headers and no content. An
// entry that no archive of a mirror has, such as a link, and a file that ends early are errors.
func (c *chunkFile) scan(visit func(name string, at span) error) error {
	if c.length == 0 {
		return fmt.Errorf("empty archive file %q", c.path)
	}
	file := io.NewSectionReader(c.reader, 0, c.length)
	t := tar.NewReader(file)
	end := int64(0)
	for n := 0; ; n++ {
		h, err := t.Next()
		switch {
		case errors.Is(err, io.EOF):
			return c.ends(end)
		case err != nil:
			return c.damaged("after byte %d: %w", end, err)
		case n > maxEntries:
			return fmt.Errorf("%s has more than %d entries", c.path, maxEntries)
		}
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return fmt.Errorf("read %s: %w", c.path, err)
		}
		name, err := safeName(h, c.sequence > 0)
		if err != nil {
			return fmt.Errorf("%s: %w", c.path, err)
		}
		if h.Typeflag != tar.TypeReg {
			end = offset
			if h.Typeflag == tar.TypeSymlink && c.link != nil {
				if err := c.link(name, h.Linkname); err != nil {
					return err
				}
			}
			continue
		}
		if end = offset + padded(h.Size); h.Size > c.length-offset {
			return c.damaged("it ends within %s: it was cut off, or not copied to its end", image.Quote(name))
		}
		if name == unusedEntry {
			continue
		}
		if err := visit(name, span{c, offset, h.Size}); err != nil {
			return err
		}
	}
}

// ends checks that there is the end of a tar after the last entry: a file may be cut off between
// two entries.
func (c *chunkFile) ends(at int64) error {
	zeros := make([]byte, trailer)
	if n, _ := c.reader.ReadAt(zeros, at); n < trailer || strings.Trim(string(zeros), "\x00") != "" {
		return c.damaged("it has no end: it was cut off, not copied to its end, or its writer was stopped")
	}
	return nil
}

// safeName returns the name of an entry without what has no meaning in it, and refuses what no
// archive of a mirror has.
func safeName(h *tar.Header, links bool) (string, error) {
	if len(h.Name) > maxName {
		return "", fmt.Errorf("an entry's name has %d bytes", len(h.Name))
	}
	known := h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir || links && h.Typeflag == tar.TypeSymlink
	if !known {
		return "", fmt.Errorf("entry %s is a link or a device: no archive of a mirror has any", image.Quote(h.Name))
	}
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return "", fmt.Errorf("entry %s is a sparse file: no archive of a mirror has any", image.Quote(h.Name))
		}
	}
	name := path.Clean(h.Name)
	if !fs.ValidPath(name) || strings.ContainsRune(name, 0) {
		return "", fmt.Errorf("entry %s has a name that leads out of the archive", image.Quote(h.Name))
	}
	return name, nil
}

// readHeader reads our first entry, if the chunk has it.
func (c *chunkFile) readHeader() error {
	errFirst := errors.New("first")
	err := c.scan(func(name string, at span) error {
		if name != chunkEntry {
			return errFirst
		}
		data, err := at.read(block)
		if err != nil {
			return err
		}
		var h chunkHeader
		if err := json.Unmarshal(data, &h); err != nil {
			return c.damaged("%s: %w", chunkEntry, err)
		}
		if h.Format != format {
			return fmt.Errorf("%s has format %d, and this program reads format %d: use a newer one",
				c.path, h.Format, format)
		}
		if h.Number < 1 || h.Chunks < h.Number || h.Archive == "" {
			return c.damaged("%s says that it is chunk %d of %d", chunkEntry, h.Number, h.Chunks)
		}
		c.header, c.number = &h, h.Number
		return errFirst
	})
	if errors.Is(err, errFirst) {
		return nil
	}
	return err
}
