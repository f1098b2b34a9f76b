package blobfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/google/uuid"
)

func (d *Dir) upload(id string) string      { return filepath.Join(d.uploads(), id) }
func (d *Dir) uploadState(id string) string { return d.upload(id) + ".json" }

// uploadFiles are the files that an upload may have: its bytes, its state, and a state that is half written.
func (d *Dir) uploadFiles(id string) []string {
	state := d.uploadState(id)
	return []string{d.upload(id), state, state + ".tmp"}
}

// IsUploadID reports whether id is one that this package made: it becomes part of a path.
func IsUploadID(id string) bool {
	u, err := uuid.Parse(id)
	return err == nil && u.String() == id
}

// Uploads lists the uploads that have files, which is also what a crash has left of one, sorted. fs.ErrNotExist when the
// directory does not exist, which Open makes.
func (d *Dir) Uploads() (ids []string, err error) {
	entries, err := os.ReadDir(d.uploads())
	last := ""
	for _, e := range entries { // sorted, so that the files of one upload follow one another
		id, _, _ := strings.Cut(e.Name(), ".")
		if id != last && IsUploadID(id) {
			ids, last = append(ids, id), id
		}
	}
	return ids, err
}

// OldUpload returns the size of the files of an upload if none of them was changed since a time.
func (d *Dir) OldUpload(id string, before, now time.Time) (size int64, old bool, err error) {
	for _, path := range d.uploadFiles(id) {
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return 0, false, err
		}
		if !isOld(path, info, before, now) {
			return 0, false, nil
		}
		size += info.Size()
	}
	return size, true, nil
}

// RemoveUpload removes the files of an upload.
func (d *Dir) RemoveUpload(id string) error {
	for _, path := range d.uploadFiles(id) {
		if err := removeIfExists(path); err != nil {
			return err
		}
	}
	return nil
}
