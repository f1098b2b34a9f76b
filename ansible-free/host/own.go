package host

import (
	"context"
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// Own is a tree that belongs to a user, whole: content that came from another host, or from another
// account. The tree is walked only when Path itself belongs to someone else, and Path comes last, so that
// an interrupted walk is done again.
type Own struct {
	Host *Host
	Path string
	User string

	before []savedOwner
}

type savedOwner struct {
	path  string
	owner Owner
}

func (s *Own) String() string { return "give " + s.Path + " and all it holds to " + s.User }

// Apply changes the owner of whatever belongs to another one. Symbolic links are not followed.
func (s *Own) Apply(ctx context.Context) (bool, error) {
	user, err := s.Host.User(s.User)
	if err != nil {
		return false, err
	}
	top, err := s.Host.StatTarget(s.Path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && top.Owner == user {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	root, err := s.Host.openRoot(s.Path)
	if err != nil {
		return false, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || name == "." {
			return errors.Join(err, ctx.Err())
		}
		was, err := give(root, name, top.Owner, user)
		if err == nil && was != user {
			s.before = append(s.before, savedOwner{name, was})
		}
		return err
	})
	if err != nil {
		return true, err
	}
	s.before = append(s.before, savedOwner{".", top.Owner})
	return true, root.Chown(".", user.UID, user.GID)
}

// give changes the owner of a name below root, a link's own where it is one, and returns which it was. What has more names
// than this one, and does not belong to the tree's own user, may be a file of root's that was linked into the tree.
func give(root *os.Root, name string, from, to Owner) (was Owner, err error) {
	f, err := root.OpenFile(name, unix.O_PATH|unix.O_NOFOLLOW, 0)
	if err != nil {
		return was, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return was, err
	}
	if was = infoOf(fi).Owner; was == to {
		return was, nil
	}
	if was.UID == 0 || was.UID != from.UID {
		if err := oneName(f.Name(), fi); err != nil {
			return was, err
		}
	}
	return was, chown(f, to)
}

// Undo gives everything back.
func (s *Own) Undo(context.Context) error {
	if len(s.before) == 0 {
		return nil
	}
	root, err := s.Host.openRoot(s.Path)
	if err != nil {
		return err
	}
	defer root.Close()
	user, err := s.Host.User(s.User)
	if err != nil {
		return err
	}
	var errs []error
	for _, b := range s.before {
		if b.path == "." {
			errs = append(errs, root.Chown(".", b.owner.UID, b.owner.GID))
			continue
		}
		_, err := give(root, b.path, user, b.owner)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
