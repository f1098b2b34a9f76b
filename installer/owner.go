package installer

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// Command returns a command of this program that runs as the user whose store it is, or nil if this
// process has that user already. It has the rights of that user and no capability; a session of its
// own, since a process that the user can trace must not type on root's terminal; and is ended by
// SIGTERM.
//
// The user, an unprivileged one, may have no way through /root to its own directory. Then the
// command gets a mount namespace in which an empty directory hides each such place, and the user's
// directories are bound back into it, as the unit of the service has it. A capability was refused:
// it would let the command read everything else as well, by links that the service has made.
func (id *Identity) Command(ctx context.Context, args ...string) (*exec.Cmd, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if err := id.CheckStore(); err != nil || id.UID == 0 {
		return nil, err
	}
	closed, beyond, err := id.closed()
	if err != nil {
		return nil, err
	}
	// The configuration is named: that user would look for a service of its own.
	args = append(args, "--config", id.Path)
	attr := &syscall.SysProcAttr{Setsid: true}
	if len(closed) == 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(id.UID), Gid: uint32(id.GID)}
	} else {
		attr.Cloneflags = syscall.CLONE_NEWNS
		args = append([]string{"enter", strconv.Itoa(id.UID), strconv.Itoa(id.GID),
			strings.Join(closed, ":"), strings.Join(beyond, ":"), "--"}, args...)
	}
	// By this name the user reaches the program also in /root.
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.Args[0] = os.Args[0]
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.SysProcAttr = attr
	return c, nil
}

// Enter does what Command begins: args are UID, GID, CLOSED, BEYOND and the command. It does not
// return unless it fails.
func Enter(args []string) error {
	uid, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	closed, beyond, args := strings.Split(args[2], ":"), strings.Split(args[3], ":"), args[4:]
	runtime.LockOSThread()
	if err := host.OwnNamespace(); err != nil {
		return err
	}
	if err := host.Mask(closed, beyond); err != nil {
		return hint.New(
			fmt.Errorf("let user %d through %s: %w", uid, strings.Join(closed, ", "), err),
			"open the way yourself: chmod o+x "+strings.Join(closed, " "))
	}
	if err := os.Chdir("/"); err != nil {
		return err
	}
	if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(gid), syscall.Setuid(uid)); err != nil {
		return fmt.Errorf("become user %d: %w", uid, err)
	}
	// It is lost with the change of the user.
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(syscall.SIGTERM), 0, 0, 0); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", append([]string{os.Args[0]}, args...), os.Environ())
}
