package mirror

import (
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"github.com/mirror-appliance/appliance/internal/owner"
)

// give gives the directories that a run of root has made in the workspace of another user to that user,
// whose next run writes and removes files there. The files stay root's: each may read them, and
// the owner of a directory replaces them. Only directories are given, since a user can link a file of
// root's into a directory and no directory. What fails is left for the message of that next run.
func (w workspace) give() {
	root, err := os.OpenRoot(w.dir) // no link leads out of it
	if err != nil {
		return
	}
	defer root.Close()
	top, err := statOf(root, ".")
	uid, gid, ok := owner.Of(root)
	if err != nil || !ok {
		return
	}
	_ = fs.WalkDir(root.FS(), filepath.Base(w.path("")), func(name string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		f, err := root.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		var made syscall.Stat_t
		if err := syscall.Fstat(int(f.Fd()), &made); err != nil || made.Dev != top.Dev { // a mount is not a run's
			return fs.SkipDir
		}
		if made.Uid != 0 {
			return nil
		}
		return f.Chown(uid, gid)
	})
}

func statOf(root *os.Root, name string) (*syscall.Stat_t, error) {
	info, err := root.Stat(name)
	if err != nil {
		return nil, err
	}
	return info.Sys().(*syscall.Stat_t), nil
}
