package blobfile

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/registry/store/blobstore"
)

func (d *Dir) note(name string) string { return filepath.Join(d.root, name) }

// NotePlace implements blobstore.Notes.
func (d *Dir) NotePlace(name string) string { return "the file " + d.note(name) }

// ReadNote implements blobstore.Notes. The version is the text.
func (d *Dir) ReadNote(_ context.Context, name string) (text []byte, seen blobstore.Version, err error) {
	text, err = os.ReadFile(d.note(name))
	if err != nil {
		return nil, nil, fmt.Errorf("read a note of the storage: %w", err)
	}
	return text, string(text), nil
}

// WriteNote implements blobstore.Notes. A host that writes it between the look and the rename is not noticed: the locks of
// files do not hold on each file system that hosts share.
func (d *Dir) WriteNote(ctx context.Context, name string, text []byte, seen blobstore.Version) error {
	_, now, err := d.ReadNote(ctx, name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if now != seen {
		return blobstore.ErrNoteChanged
	}
	tmp, err := d.Temp()
	if err == nil {
		err = durable.WriteFile(d.note(name), tmp, text)
	}
	if err != nil {
		return fmt.Errorf("write a note of the storage: %w", err)
	}
	return nil
}

// RemoveNote implements blobstore.Notes.
func (d *Dir) RemoveNote(_ context.Context, name string) error {
	err := durable.IgnoreMissing(os.Remove(d.note(name)))
	if err == nil {
		err = durable.SyncDir(d.root)
	}
	return err
}
