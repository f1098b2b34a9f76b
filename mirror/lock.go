package mirror

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// lockFile is beside working-dir, whose files go into archives.
const lockFile = ".appliance.lock"

// Lock makes a workspace, and keeps runs out of it until unlock, but those with Options.Locked: for a
// caller that writes beside working-dir.
func Lock(dir string) (unlock func(), err error) {
	w := workspace{dir}
	if err := w.check(); err != nil {
		return nil, err
	}
	return w.lock(time.Now())
}

// lock keeps other runs out of the workspace until unlock: two would replace each other's
// documents. The second is told which run is the first. Where a file system has no locks, nothing
// is kept out.
func (w workspace) lock(now time.Time) (unlock func(), err error) {
	name := filepath.Join(w.dir, lockFile)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	theirs := errors.Is(err, fs.ErrPermission) // another user's run made it: it can be locked all the same
	if theirs {
		f, err = os.Open(name)
	}
	if err != nil {
		return nil, w.unwritten(err)
	}
	unlock = func() { w.give(); f.Close() }
	switch err := durable.Lock(f, durable.Exclusive); {
	case errors.Is(err, durable.ErrLocked):
		holder, _ := io.ReadAll(io.LimitReader(f, 200))
		f.Close()
		return nil, hint.New(fmt.Errorf("another run is in the workspace %s: %s", w.dir,
			strings.TrimSpace(string(holder))),
			"wait until it has ended, or name another workspace")
	case err != nil || theirs:
		return unlock, nil
	}
	text := fmt.Sprintf("process %d, since %s\n", os.Getpid(), now.UTC().Format(time.RFC3339))
	if err := errors.Join(f.Truncate(0), writeAt(f, text)); err != nil {
		f.Close()
		return nil, w.unwritten(err)
	}
	return unlock, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}
