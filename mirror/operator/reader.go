package operator

import (
	"errors"
	"fmt"
	"io"
	"io/fs"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// reader reads values of a catalog by their place. It keeps the last file open.
type reader struct {
	index *Index
	files fs.FS
	open  fs.File
	name  string
	at    int64
}

func (x *Index) reader(files fs.FS) *reader { return &reader{index: x, files: files} }

func (r *reader) close() {
	if r.open != nil {
		_ = r.open.Close()
		r.open = nil
	}
}

// read returns the value at a place, in JSON. The bytes are the caller's.
func (r *reader) read(at place) ([]byte, error) {
	name := r.index.files[at.file]
	raw := make([]byte, at.length)
	err := r.fill(name, at.offset, raw)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, fs.ErrNotExist) {
		return nil, errChanged(name)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if at.yaml {
		raw, err = yamlToJSON(raw)
	}
	if err != nil || checkJSON(raw) != nil {
		return nil, errChanged(name)
	}
	return raw, nil
}

// ErrChanged is the error of a file of a catalog that has changed since it was scanned, or is missing.
var ErrChanged = errors.New("changed since it was read")

// errChanged returns the error for a file that is not as it was when it was scanned.
func errChanged(name string) error {
	return hint.New(fmt.Errorf("%s of the catalog %w", name, ErrChanged), "run it again: the catalog is then read anew")
}

func (r *reader) fill(name string, offset int64, into []byte) error {
	if r.open != nil && (r.name != name || !seekable(r.open) && r.at > offset) {
		r.close()
	}
	if r.open == nil {
		f, err := r.files.Open(name)
		if err != nil {
			return err
		}
		r.open, r.name, r.at = f, name, 0
	}
	switch f := r.open.(type) {
	case io.ReaderAt:
		_, err := f.ReadAt(into, offset)
		if errors.Is(err, io.EOF) { // all may have been read nevertheless
			_, err = io.ReadFull(io.NewSectionReader(f, offset, int64(len(into))), into)
		}
		return err
	case io.Seeker:
		if _, err := f.Seek(offset, io.SeekStart); err != nil {
			return err
		}
	default:
		if _, err := io.CopyN(io.Discard, r.open, offset-r.at); err != nil {
			return err
		}
	}
	_, err := io.ReadFull(r.open, into)
	r.at = offset + int64(len(into))
	return err
}

func seekable(f fs.File) bool {
	_, seeker := f.(io.Seeker)
	_, readerAt := f.(io.ReaderAt)
	return seeker || readerAt
}
