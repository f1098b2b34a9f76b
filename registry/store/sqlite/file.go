package sqlite

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/store/database"
)

// The header of an SQLite file, https://sqlite.org/fileformat.html.
const (
	headerMagic  = "SQLite format 3\x00"
	headerSchema = 40 // where the format of the schema is
	headerID     = 68 // where the application's id is
	headerBytes  = headerID + 4
)

// IsApplication reports whether a file is an SQLite database of an application.
func IsApplication(path string, id uint32) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	header := make([]byte, headerBytes)
	if _, err := io.ReadFull(f, header); err != nil {
		return false, nil
	}
	return bytes.HasPrefix(header, []byte(headerMagic)) && binary.BigEndian.Uint32(header[headerID:]) == id, nil
}

// createFile creates the file before SQLite does, which would make it readable for all, and refuses
// a file of another kind. It reports whether the file is empty.
func createFile(path string, id uint32) (fresh bool, err error) {
	fresh, err = checkFile(path, os.O_RDWR|os.O_CREATE, id)
	if fresh { // SQLite makes a database of it
		err = durable.SyncDir(filepath.Dir(path))
	}
	return fresh, err
}

// checkFile opens a file, refuses one of another kind, and reports whether it is empty.
func checkFile(path string, flags int, id uint32) (empty bool, err error) {
	f, err := os.OpenFile(path, flags|unix.O_NONBLOCK, 0o600)
	if err != nil {
		return false, fmt.Errorf("open database: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return false, fmt.Errorf("open database: %w", err)
	} else if !info.Mode().IsRegular() { // the reading of a FIFO would never end
		return false, &database.NotDatabaseError{Path: path, Reason: "it is not a regular file"}
	}
	header := make([]byte, headerBytes)
	n, err := io.ReadFull(f, header)
	if errors.Is(err, io.EOF) {
		return true, nil
	}
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) {
		return false, fmt.Errorf("read database %s: %w", path, err)
	}
	if n < len(header) || !bytes.HasPrefix(header, []byte(headerMagic)) {
		return false, &database.NotDatabaseError{Path: path, Reason: "it does not begin like an SQLite file"}
	}
	// With neither a schema nor an id, it is our own, of which everything is still in the WAL.
	schema, application := binary.BigEndian.Uint32(header[headerSchema:]), binary.BigEndian.Uint32(header[headerID:])
	if application != id && (application != 0 || schema != 0) {
		return false, &database.NotDatabaseError{Path: path, Reason: "another program wrote this SQLite file"}
	}
	return false, nil
}

// checkBesides refuses a FIFO, a socket or a device beside the database, which would block or be
// written to. createFile checks the database itself.
func checkBesides(path string) error {
	for _, suffix := range []string{"-wal", "-shm", "-journal", lockSuffix, reserveSuffix} {
		info, err := os.Stat(path + suffix)
		if err == nil && !info.Mode().IsRegular() {
			return hint.New(fmt.Errorf("%s is not a regular file (%s)", path+suffix, info.Mode()),
				"find out what made it, and move it away: the registry makes its own file there")
		}
	}
	return nil
}

const lockSuffix = ".lock"

// Lock takes the exclusive lock of a database, until the file is closed. *LockedError. The lock
// ends with a crash. The file stays: without it, two processes could lock two files.
func Lock(path string) (*os.File, error) {
	if err := checkBesides(path); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path+lockSuffix, os.O_RDWR|os.O_CREATE, 0o600)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, hint.New(fmt.Errorf("lock the store: the directory of the database does not exist: %w", err),
			"mount it, or make it for the user of the service: install -d -o USER "+filepath.Dir(path))
	}
	if err != nil {
		return nil, fmt.Errorf("lock the store: %w", err)
	}
	err = durable.Lock(f, durable.Exclusive)
	if errors.Is(err, durable.ErrLocked) {
		return nil, errors.Join(&database.LockedError{Path: f.Name()}, f.Close())
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock the store: %w", err), f.Close())
	}
	return f, nil
}

// Bytes returns the sizes of the database and of its WAL.
func (db *DB) Bytes() (database, wal int64) { return size(db.path), size(db.path + "-wal") }

// size returns 0 for a file that does not exist, such as a WAL.
func size(path string) int64 {
	info, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return info.Size()
}
