package host

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Own is a tree that belongs to a user as a whole, such as content from another host. It is walked
// only if Path belongs to another user; Path comes last, so that a killed walk is done again.
type Own struct {
	Host *Host  `json:"-"`
	Path string `json:"path"`
	User string `json:"user"`

	user   Owner
	before *Before
}

func (s *Own) String() string { return "give " + s.Path + " and all it holds to " + s.User }

// Check lists what belongs to another user.
func (s *Own) Check(ctx context.Context) (_ *Before, err error) {
	if s.user, err = s.Host.User(s.User); err != nil {
		return nil, err
	}
	top, err := s.Host.StatTarget(s.Path)
	if absent(err) || err == nil && top.Owner == s.user {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	root, err := s.Host.OpenRoot(s.Path)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	s.before = &Before{Is: isDirectory, Mode: modeOf(top), Owner: top.Owner}
	return s.before, fs.WalkDir(root.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || name == "." {
			return errors.Join(err, ctx.Err())
		}
		if name == "lost+found" && d.IsDir() { // of the file system
			return fs.SkipDir
		}
		info, err := root.Lstat(name)
		if was := infoOf(info).Owner; err == nil && was != s.user {
			s.before.Below = append(s.before.Below, Before{Path: name, Owner: was})
		}
		return err
	})
}

// Apply changes the owners. It does not follow symbolic links.
func (s *Own) Apply(context.Context) (bool, error) {
	root, err := s.Host.OpenRoot(s.Path)
	if err != nil {
		return false, err
	}
	defer root.Close()
	for _, b := range s.before.Below {
		if err := give(root, b.Path, s.before.Owner, s.user); err != nil {
			return true, err
		}
	}
	return true, root.Chown(".", s.user.UID, s.user.GID)
}

// Undo gives everything back.
func (s *Own) Undo(_ context.Context, before *Before) (bool, error) {
	user, err := s.Host.User(s.User)
	if err != nil {
		return false, err
	}
	root, err := s.Host.OpenRoot(s.Path)
	if absent(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer root.Close()
	var errs []error
	for _, b := range before.Below {
		errs = append(errs, give(root, b.Path, user, b.Owner))
	}
	return true, errors.Join(append(errs, root.Chown(".", before.Owner.UID, before.Owner.GID))...)
}

// give changes the owner of a name below root, also of a link. It rejects a file with several names
// that is not the tree's own user's: root's may have been linked into the tree.
func give(root *os.Root, name string, from, to Owner) error {
	f, err := root.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	was := infoOf(fi).Owner
	if was == to {
		return nil
	}
	if was.UID == 0 || was.UID != from.UID {
		if err := oneName(f.Name(), fi); err != nil {
			return err
		}
	}
	return chown(f, to)
}

// Take is a directory, and the files in it, that no longer belong to their owner. The directory
// changes hands first. Then each file of another user is written anew, since that user may have it
// open. The new group may read what the owner may. Mode and owner of what is root's already stay.
type Take struct {
	Host  *Host  `json:"-"`
	Path  string `json:"path"`
	Owner string `json:"-"` // as in File

	owner  Owner
	before *Before
}

func (s *Take) String() string { return "take " + s.Path + " and the files in it from the service" }

// Check lists what belongs to another user.
func (s *Take) Check(context.Context) (_ *Before, err error) {
	if s.owner, err = s.Host.owner(s.Owner); err != nil {
		return nil, err
	}
	info, err := s.Host.StatTarget(s.Path)
	if err != nil {
		return nil, err
	}
	s.before = &Before{Is: isDirectory, Mode: modeOf(info), Owner: info.Owner}
	if s.before.Below, err = s.files(); err != nil {
		return nil, err
	}
	if info.Owner.UID == s.owner.UID && info.Mode.Perm()&0o022 == 0 && len(s.before.Below) == 0 {
		return nil, nil
	}
	return s.before, nil
}

func (s *Take) files() (foreign []Before, err error) {
	names, err := s.Host.Names(s.Path)
	if err != nil {
		return nil, err
	}
	for _, name := range names {
		file, err := s.Host.look(filepath.Join(s.Path, name))
		if err != nil {
			return nil, err
		}
		if file.Is == "" || file.Owner.UID == s.owner.UID {
			continue
		}
		if file.Is != isFile {
			return nil, notRegular(file.Path, "a "+file.Is+", not a file")
		}
		foreign = append(foreign, *file)
	}
	return foreign, nil
}

// Apply takes the directory, and then the files that it has by then.
func (s *Take) Apply(context.Context) (bool, error) {
	if s.before.Owner.UID != s.owner.UID || s.before.Mode&0o022 != 0 {
		if err := s.Host.setDirAttr(s.Path, s.before.Mode&^0o022, s.owner); err != nil {
			return false, err
		}
	}
	files, err := s.files()
	if err != nil {
		return true, err
	}
	for _, file := range files {
		content, err := s.Host.ReadFile(file.Path)
		if err != nil {
			return true, err
		}
		mode := file.Mode &^ 0o022
		mode |= mode >> 3 & 0o040
		if err := s.Host.Write(file.Path, bytes.NewReader(content), mode, s.owner); err != nil {
			return true, err
		}
	}
	return true, nil
}

// Undo gives everything back.
func (s *Take) Undo(_ context.Context, before *Before) (bool, error) {
	var errs []error
	for _, file := range before.Below {
		errs = append(errs, s.Host.setFileAttr(file.Path, file.Mode, file.Owner))
	}
	return true, errors.Join(append(errs, s.Host.setDirAttr(s.Path, before.Mode, before.Owner))...)
}
