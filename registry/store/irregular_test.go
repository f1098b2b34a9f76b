package store

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpen_refusesAFIFO finds one in the place of the database: a command would wait for good and hold the lock.
func TestOpen_refusesAFIFO(t *testing.T) {
	path := filepath.Join(t.TempDir(), "appliance.db")
	if err := unix.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Open(context.Background(), Options{Database: path, Storage: t.TempDir()})
	var not *NotDatabaseError
	if !errors.As(err, &not) || !strings.Contains(err.Error(), path) {
		t.Errorf("got %v, want a NotDatabaseError that names %s", err, path)
	}
}
