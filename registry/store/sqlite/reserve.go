package sqlite

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/diskspace"
)

const (
	reserveSuffix = ".reserve"

	// reserveBytes is the size of the reserve, or a sixteenth of the file system if that is less. The WAL of the largest
	// deleting transaction fits.
	reserveBytes = 16 << 20

	// reserveStep is how much of it is given up at a time: as little as helps, since another program that filled the disk
	// may take the rest.
	reserveStep = 256 << 10
)

// reserve is a file beside the database that is there only to be given up: on a disk that is full to the last byte, its
// deletion makes the space that a transaction needs to delete something else.
type reserve struct {
	path  string
	log   *slog.Logger
	space diskspace.Checker

	mu sync.Mutex // one change of the file at a time
}

// fill creates the file, if it does not exist and there is space to spare for it.
func (r *reserve) fill() error {
	if err := r.allocate(); err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	return nil
}

func (r *reserve) allocate() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	f, err := os.OpenFile(r.path, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer f.Close()
	_, total, err := r.space.Bytes(r.path)
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	size := min(reserveBytes, total/16)
	if info.Size() >= size || r.space.Check(r.path, size-info.Size()) != nil {
		return nil
	}
	if err := unix.Fallocate(int(f.Fd()), 0, 0, size); err != nil {
		return errors.Join(err, f.Truncate(info.Size()))
	}
	return nil
}

// spend gives some of the space up, and reports whether there was any. It gives up none where all of it would not do:
// short bytes are missing, 0 when that is unknown.
func (r *reserve) spend(short int64) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	info, err := os.Lstat(r.path)
	return err == nil && info.Size() > 0 && info.Size() >= short && os.Truncate(r.path, max(0, info.Size()-reserveStep)) == nil
}

// Freeing runs what deletes something. When the disk is too full even for that, it gives up some of the reserve and runs
// it again.
func (db *DB) Freeing(do func() error) error {
	for {
		err := do()
		var full *diskspace.FullError
		if !errors.As(err, &full) || !db.reserve.spend(full.Short) {
			return err
		}
		db.log.Warn("the disk is full: gave up reserved space so that images can be deleted", "path", db.reserve.path)
	}
}

// refill reserves space again. A failure is not one of its caller.
func (db *DB) refill() {
	if err := db.reserve.fill(); err != nil {
		db.log.Warn("could not reserve space for deleting on a full disk", "path", db.reserve.path, "error", err)
	}
}
