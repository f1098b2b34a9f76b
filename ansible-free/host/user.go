package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// SystemUser is a user that systemd-sysusers makes from File, a sysusers.d(5) file.
type SystemUser struct {
	Host *Host  `json:"-"`
	Name string `json:"name"`
	File string `json:"-"`
}

func (s *SystemUser) String() string { return "create system user " + s.Name }

// Taken returns what Undo does.
func (s *SystemUser) Taken() string { return "delete system user " + s.Name }

// Check looks the user up, and a group of its name, which the user gets.
func (s *SystemUser) Check(context.Context) (*Before, error) {
	if _, err := s.Host.User(s.Name); !absent(err) {
		return nil, err
	}
	gid, ok, err := s.group()
	if !ok || err != nil {
		return &Before{}, err
	}
	return &Before{Is: isGroup, Owner: Owner{GID: gid}}, nil
}

// group returns the number of the group with the user's name, if there is one.
func (s *SystemUser) group() (gid int, ok bool, err error) {
	groups, err := s.Host.table("/etc/group", 4)
	i := slices.IndexFunc(groups, func(g []string) bool { return g[0] == s.Name })
	if i < 0 || err != nil {
		return 0, false, err
	}
	gid, err = strconv.Atoi(groups[i][2])
	return gid, err == nil, err
}

// Apply creates the user.
func (s *SystemUser) Apply(ctx context.Context) (bool, error) {
	if _, err := s.Host.runWhole(ctx, "systemd-sysusers", s.Host.Path(s.File)); err != nil {
		return true, fmt.Errorf("create user %s: %w", s.Name, err)
	}
	if _, err := s.Host.User(s.Name); err != nil {
		return true, fmt.Errorf("systemd-sysusers did not create it: %w", err)
	}
	return true, nil
}

// Undo deletes the user and, unless it was there before, its group. Where there is no userdel, which a
// base system may lack, the user stays: it owns nothing and cannot log in.
func (s *SystemUser) Undo(ctx context.Context, before *Before) (bool, error) {
	if _, err := s.Host.User(s.Name); absent(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	_, err := s.Host.runWhole(ctx, "userdel", s.Name)
	if errors.Is(err, exec.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, hint.New(fmt.Errorf("delete user %s: %w", s.Name, err), "end what runs as that "+
			"user, then run the command again: ps -u "+s.Name)
	}
	return true, s.undoGroup(ctx, before)
}

// undoGroup has the group be there, or not, as before. userdel deletes it with the user where
// login.defs says USERGROUPS_ENAB yes, unless it has other members.
func (s *SystemUser) undoGroup(ctx context.Context, before *Before) error {
	_, ok, err := s.group()
	had := before != nil && before.Is == isGroup
	switch {
	case err != nil || ok == had:
	case had:
		gid := strconv.Itoa(before.Owner.GID)
		_, err = s.Host.runWhole(ctx, "groupadd", "--system", "--gid", gid, s.Name)
	default:
		_, err = s.Host.runWhole(ctx, "groupdel", s.Name)
	}
	if err != nil && !errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("undo the change of group %s: %w", s.Name, err)
	}
	return nil
}

// runWhole runs a program that edits /etc/passwd. Killed half way, the program would leave
// temporary copies and a lock, so the end of ctx does not end it. It takes milliseconds.
func (h *Host) runWhole(ctx context.Context, name string, args ...string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	return h.Run(ctx, name, args...)
}

// User returns a user of /etc/passwd, where systemd-sysusers puts system users, or fs.ErrNotExist.
func (h *Host) User(name string) (Owner, error) {
	u, err := h.findUser(func(u passwdLine) bool { return u.name == name })
	if err != nil {
		return Owner{}, fmt.Errorf("user %s: %w", name, err)
	}
	return u.owner, nil
}

// owner returns the user that a step names, with the group of a second one as in root:appliance.
// Without a name it is asIs.
func (h *Host) owner(name string) (Owner, error) {
	if name == "" {
		return asIs(), nil
	}
	name, group, two := strings.Cut(name, ":")
	owner, err := h.User(name)
	if err != nil || !two {
		return owner, err
	}
	lender, err := h.User(group)
	owner.GID = lender.GID
	return owner, err
}

// UserName returns the name of a user id, or the number if it has none.
func (h *Host) UserName(uid int) string {
	u, err := h.findUser(func(u passwdLine) bool { return u.owner.UID == uid })
	if err != nil {
		return strconv.Itoa(uid)
	}
	return u.name
}

// GroupOf returns the group of a user in /etc/passwd. Without such a user it is the group of a file
// of that number, and not root's.
func (h *Host) GroupOf(uid, ofFile int) int {
	u, err := h.findUser(func(u passwdLine) bool { return u.owner.UID == uid })
	if err == nil {
		return u.owner.GID
	}
	if ofFile == 0 {
		return uid
	}
	return ofFile
}

type passwdLine struct {
	name, home string
	owner      Owner
}

func (h *Host) findUser(match func(passwdLine) bool) (passwdLine, error) {
	users, err := h.passwd()
	if i := slices.IndexFunc(users, match); i >= 0 {
		return users[i], nil
	}
	if err == nil {
		err = fs.ErrNotExist
	}
	return passwdLine{}, err
}

func (h *Host) passwd() (users []passwdLine, err error) {
	lines, err := h.table("/etc/passwd", 7)
	for _, f := range lines {
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 == nil && err2 == nil {
			users = append(users, passwdLine{f[0], f[5], Owner{uid, gid}})
		}
	}
	return users, err
}

// table returns the lines of a file that have so many fields, none if there is no such file.
func (h *Host) table(path string, fields int) (lines [][]string, err error) {
	content, err := h.ReadFile(path)
	if absent(err) {
		return nil, nil
	}
	for line := range strings.Lines(string(content)) {
		if f := strings.Split(strings.TrimSpace(line), ":"); len(f) == fields {
			lines = append(lines, f)
		}
	}
	return lines, err
}
