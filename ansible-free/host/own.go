package host

import (
	"context"
	"errors"
	"io/fs"
	"os"
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
	root, err := os.OpenRoot(s.Host.Path(s.Path))
	if err != nil {
		return false, err
	}
	defer root.Close()
	err = fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil || ctx.Err() != nil || name == "." {
			return errors.Join(err, ctx.Err())
		}
		fi, err := root.Lstat(name)
		if err != nil || infoOf(fi).Owner == user {
			return err
		}
		s.before = append(s.before, savedOwner{name, infoOf(fi).Owner})
		return root.Lchown(name, user.UID, user.GID)
	})
	if err != nil {
		return true, err
	}
	s.before = append(s.before, savedOwner{".", top.Owner})
	return true, root.Chown(".", user.UID, user.GID)
}

// Undo gives everything back.
func (s *Own) Undo(context.Context) error {
	if len(s.before) == 0 {
		return nil
	}
	root, err := os.OpenRoot(s.Host.Path(s.Path))
	if err != nil {
		return err
	}
	defer root.Close()
	var errs []error
	for _, b := range s.before {
		change := root.Lchown
		if b.path == "." {
			change = root.Chown // Path may be a link to the directory
		}
		errs = append(errs, change(b.path, b.owner.UID, b.owner.GID))
	}
	return errors.Join(errs...)
}
