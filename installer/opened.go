package installer

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// opened lets the service read a file of the user's in the configuration's directory. Unlike that of
// a host.File, its result is not recorded: an uninstall does not remove the file.
type opened struct {
	File host.File `json:"file"`
}

func (s *opened) String() string { return s.File.String() }

func (s *opened) Check(ctx context.Context) (*host.Before, error) { return s.File.Check(ctx) }

func (s *opened) Apply(ctx context.Context) (bool, error) { return s.File.Apply(ctx) }

func (s *opened) Undo(ctx context.Context, before *host.Before) (bool, error) {
	return s.File.Undo(ctx, before)
}

// openOwn opens the user's own certificate and key, as they were copied by hand, to the service.
// Those elsewhere are not install's to change.
func (s *site) openOwn() (steps []host.Step) {
	c := s.cfg.TLS
	if s.User || c.CAKey != "" || s.given != nil {
		return nil
	}
	served := filepath.Join(filepath.Dir(c.Certificate), filepath.Base(s.ownFile()))
	for _, f := range []struct {
		path  string
		mode  fs.FileMode
		owner string
	}{{c.Key, s.keyMode(), s.reader()}, {served, 0o644, s.admin}} {
		if filepath.Dir(f.path) == filepath.Clean(s.confDir()) && s.unread(f.path) {
			steps = append(steps, &opened{host.File{Host: s.Host, Path: f.path, AnyContent: true, Mode: f.mode, Owner: f.owner}})
		}
	}
	return steps
}

// warnOfUnread warns of the user's own certificate and key elsewhere, which the service may not read.
func (s *site) warnOfUnread() {
	c := s.cfg.TLS
	for _, path := range []string{c.Certificate, c.Key} {
		if !s.User && filepath.Dir(path) != filepath.Clean(s.confDir()) && s.unread(path) {
			s.warn(fmt.Sprintf("the service's user %s may not read %s, and cannot start again", s.owner, path),
				fmt.Sprintf("chown root:%s %s && chmod 640 %[2]s", s.owner, path))
		}
	}
}

// unread reports whether the service may not read a file, by owner and mode. A user that install is
// to make has rights as other users.
func (s *site) unread(path string) bool {
	info, err := s.Host.StatTarget(path)
	if err != nil || !info.Mode.IsRegular() {
		return false
	}
	user, err := s.Host.User(s.owner)
	if err != nil {
		user = host.Owner{UID: -1, GID: -1}
	}
	return !allowed(info, user, 0o4)
}
