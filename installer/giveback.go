package installer

import (
	"context"
	"errors"
	"io/fs"
	"slices"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// dirBefore is how a directory of the user's was before install gave it to the service.
type dirBefore struct {
	Path string      `json:"path"`
	Mode fs.FileMode `json:"mode"`
	UID  int         `json:"uid"`
	GID  int         `json:"gid"`
}

// remember notes a directory that exists and is about to get another owner or mode, unless an earlier install has.
func (r *record) remember(h *host.Host, path string) error {
	if r.created(path) || slices.ContainsFunc(r.Before, func(d dirBefore) bool { return d.Path == path }) {
		return nil
	}
	info, err := h.StatTarget(path)
	if err != nil {
		return err
	}
	r.Before = append(r.Before, dirBefore{path, info.Mode.Perm(), info.Owner.UID, info.Owner.GID})
	return nil
}

// giveBack gives a directory the owner and the mode that it had before install. Only one that is still the service's is
// touched: another user has changed it since.
type giveBack struct {
	host    *host.Host
	dir     dirBefore
	service string // user; empty: the caller
}

func (s *giveBack) String() string { return "give " + s.dir.Path + " its owner and mode back" }

func (s *giveBack) Apply(context.Context) (bool, error) {
	info, err := s.host.StatTarget(s.dir.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	before := host.Owner{UID: s.dir.UID, GID: s.dir.GID}
	if info.Mode.Perm() == s.dir.Mode.Perm() && info.Owner == before {
		return false, nil
	}
	if s.service != "" {
		if service, err := s.host.User(s.service); err != nil || service.UID != info.Owner.UID {
			return false, nil
		}
	}
	return true, s.host.SetDirAttr(s.dir.Path, s.dir.Mode, before)
}

func (s *giveBack) Undo(context.Context) error { return nil }
