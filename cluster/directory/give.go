package directory

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/owner"
)

// giver gives what is made to the owner of a directory, as package owner has it.
type giver struct{ in *os.Root }

func (g giver) give(f *os.File) error {
	uid, gid, ok := owner.Of(g.in)
	if !ok {
		return nil
	}
	return f.Chown(uid, gid)
}

// create writes a file.
func (g giver) create(dir *os.Root, f cluster.File) error {
	w, err := dir.OpenFile(filepath.FromSlash(f.Name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, Mode(f))
	if err != nil {
		return err
	}
	_, err = w.Write(f.Data)
	return durable.Finish(w, errors.Join(err, g.give(w)))
}

// giveDirs gives a directory and those in it: last, since their owner can change them.
func (g giver) giveDirs(dir *os.Root) error {
	var names []string
	err := fs.WalkDir(dir.FS(), ".", func(name string, e fs.DirEntry, err error) error {
		if err == nil && e.IsDir() {
			names = append(names, name)
		}
		return err
	})
	slices.Reverse(names)
	for _, name := range names {
		if err == nil {
			err = g.giveDir(dir, name)
		}
	}
	return err
}

func (g giver) giveDir(in *os.Root, name string) error {
	f, err := in.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return g.give(f)
}

// openParent opens a directory, which it makes if it does not exist, with those above it.
func openParent(dir string) (*os.Root, error) {
	parent, err := os.OpenRoot(dir)
	if !errors.Is(err, fs.ErrNotExist) {
		return parent, err
	}
	above, err := openParent(filepath.Dir(dir))
	if err != nil {
		return nil, err
	}
	defer above.Close()
	name := filepath.Base(dir)
	if err := above.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	if err := (giver{above}).giveDir(above, name); err != nil {
		return nil, err
	}
	return above.OpenRoot(name)
}
