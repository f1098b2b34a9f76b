package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os/exec"
	"strconv"
	"strings"
	"time"
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

// Check looks the user up.
func (s *SystemUser) Check(context.Context) (*Before, error) {
	if _, err := s.Host.User(s.Name); !absent(err) {
		return nil, err
	}
	return &Before{}, nil
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

// Undo deletes the user and its group. Where there is no userdel, which a base system may lack, the user stays: it owns
// nothing and cannot log in.
func (s *SystemUser) Undo(ctx context.Context, _ *Before) (bool, error) {
	return deleteUser(ctx, s.Host, s.Name)
}

func deleteUser(ctx context.Context, h *Host, name string) (bool, error) {
	if _, err := h.User(name); absent(err) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	_, err := h.runWhole(ctx, "userdel", name)
	if errors.Is(err, exec.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("delete user %s: %w", name, err)
	}
	group, err := h.hasGroup(name) // userdel leaves it where login.defs says USERGROUPS_ENAB no
	if err != nil || !group {
		return true, err
	}
	if _, err := h.runWhole(ctx, "groupdel", name); err != nil && !errors.Is(err, exec.ErrNotFound) {
		return true, fmt.Errorf("delete group %s: %w", name, err)
	}
	return true, nil
}

// runWhole runs a program that edits /etc/passwd. Killed half way, the program would leave temporary copies and a lock, so
// the end of ctx does not end it. It takes milliseconds.
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
	users, err := h.passwd()
	if err != nil {
		return Owner{}, err
	}
	for _, u := range users {
		if u.name == name {
			return u.owner, nil
		}
	}
	return Owner{}, fmt.Errorf("user %s: %w", name, fs.ErrNotExist)
}

// owner returns the user that a step names, with the group of a second one as in root:appliance. Without a name it is AsIs.
func (h *Host) owner(name string) (Owner, error) {
	if name == "" {
		return AsIs(), nil
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
	users, err := h.passwd()
	if err == nil {
		for _, u := range users {
			if u.owner.UID == uid {
				return u.name
			}
		}
	}
	return strconv.Itoa(uid)
}

// GroupOf returns the group of a user in /etc/passwd. Without such a user it is the group of a file of that number, and not
// root's.
func (h *Host) GroupOf(uid, ofFile int) int {
	users, err := h.passwd()
	if err == nil {
		for _, u := range users {
			if u.owner.UID == uid {
				return u.owner.GID
			}
		}
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

func (h *Host) passwd() ([]passwdLine, error) {
	content, err := h.ReadFile("/etc/passwd")
	if absent(err) {
		return nil, nil
	}
	var users []passwdLine
	for line := range strings.Lines(string(content)) {
		f := strings.Split(strings.TrimSpace(line), ":")
		if len(f) != 7 {
			continue
		}
		uid, err1 := strconv.Atoi(f[2])
		gid, err2 := strconv.Atoi(f[3])
		if err1 == nil && err2 == nil {
			users = append(users, passwdLine{f[0], f[5], Owner{uid, gid}})
		}
	}
	return users, err
}

func (h *Host) hasGroup(name string) (bool, error) {
	found := false
	err := h.groups(func(line []string) { found = found || line[0] == name })
	return found, err
}

// members returns the users that /etc/group has in a group. Those whose own group it is are not among them.
func (h *Host) members(gid int) (names []string, err error) {
	err = h.groups(func(line []string) {
		if len(line) == 4 && line[2] == strconv.Itoa(gid) && line[3] != "" {
			names = append(names, strings.Split(line[3], ",")...)
		}
	})
	return names, err
}

func (h *Host) groups(each func(line []string)) error {
	content, err := h.ReadFile("/etc/group")
	if absent(err) {
		return nil
	}
	for line := range strings.Lines(string(content)) {
		each(strings.Split(strings.TrimSpace(line), ":"))
	}
	return err
}
