package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// asOwner runs this very command again as the user whose store it is when root has called it, and reports whether it
// did.
func asOwner(ctx context.Context, id *installer.Identity, std stdio, more ...string) (done bool, err error) {
	c, err := ownerCommand(ctx, id, append(slices.Clone(os.Args[1:]), more...)...)
	if c == nil || err != nil {
		return false, err
	}
	c.Stdin, c.Stdout, c.Stderr = std.in, std.out, std.err
	if std.in == os.Stdin {
		c.Stdin = nil // the terminal is root's
	}
	// However this process ends, the other does not go on without it. The kernel takes the death of a thread for that.
	c.SysProcAttr.Pdeathsig = syscall.SIGTERM
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = c.Run()
	if errors.Is(err, context.Canceled) && c.ProcessState.Success() {
		return true, nil // it was told of the signal, and ended as it should
	}
	return true, said(err)
}

// ownerCommand is a command of this program that is to run as the user whose store it is, nil if this process is that
// user already. It has the rights of that user and no capability; a session of its own, since a process that the user
// can trace must not type on root's terminal; and writes to a pipe.
//
// The user, an unprivileged one, may have no way through /root to its own directory. Then the command gets a mount
// namespace in which an empty directory hides each such place, and the user's directories are bound back into it, as
// the unit of the service has it. (A capability that lets it through would let it read everything else as well, by
// links that the service has made.)
func ownerCommand(ctx context.Context, id *installer.Identity, args ...string) (*exec.Cmd, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	if err := id.CheckStore(); err != nil || id.UID == 0 {
		return nil, err
	}
	closed, beyond, err := id.Closed()
	if err != nil {
		return nil, err
	}
	// The one meant is named: that user would look for a service of its own.
	args = append(args, "--config", id.Path)
	attr := &syscall.SysProcAttr{Setsid: true}
	if len(closed) == 0 {
		attr.Credential = &syscall.Credential{Uid: uint32(id.UID), Gid: uint32(id.GID)}
	} else {
		attr.Cloneflags = syscall.CLONE_NEWNS
		args = append([]string{"enter", strconv.Itoa(id.UID), strconv.Itoa(id.GID), strings.Join(closed, ":"), strings.Join(beyond, ":"), "--"}, args...)
	}
	// By this name the user reaches the program also in /root.
	c := exec.CommandContext(ctx, "/proc/self/exe", args...)
	c.Args[0] = os.Args[0]
	c.Env = append(os.Environ(), calledByRoot+"=1")
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	if c.WaitDelay = stopLimit - sooner; slices.Contains(args, "serve") {
		c.WaitDelay = drainLimit - sooner
	}
	c.SysProcAttr = attr
	return c, nil
}

// newEnterCommand is for ownerCommand alone.
func newEnterCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "enter UID GID CLOSED BEYOND -- COMMAND",
		Short:  "Run a command of this program as another user, in a mount namespace",
		Hidden: true,
		Args:   cobra.MinimumNArgs(5),
		RunE: func(_ *cobra.Command, args []string) error {
			uid, err := strconv.Atoi(args[0])
			if err != nil {
				return err
			}
			gid, err := strconv.Atoi(args[1])
			if err != nil {
				return err
			}
			return enter(uid, gid, strings.Split(args[2], ":"), strings.Split(args[3], ":"), args[4:])
		},
	}
}

func enter(uid, gid int, closed, beyond, args []string) error {
	runtime.LockOSThread()
	if err := ownNamespace(); err != nil {
		return err
	}
	if err := mask(closed, beyond); err != nil {
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

// ownNamespace makes sure that what is mounted is mounted for this process alone.
func ownNamespace() error {
	own, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return err
	}
	parents, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", os.Getppid()))
	if err != nil {
		return err
	}
	if own == parents {
		return errors.New("this command is not for people")
	}
	return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
}

// mask puts an empty directory in the place of each that is closed, and binds those beyond back into it.
func mask(closed, beyond []string) error {
	fds := map[string]int{}
	for _, dir := range beyond {
		fd, err := unix.Open(dir, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
			continue // the command says so
		}
		if err != nil {
			return &os.PathError{Op: "open", Path: dir, Err: err}
		}
		fds[dir] = fd
	}
	paths := slices.Concat(closed, beyond)
	slices.Sort(paths) // a directory before what is in it
	var empty []string
	for _, path := range slices.Compact(paths) {
		fd, bind := fds[path]
		switch {
		case slices.Contains(closed, path):
			if err := unix.Mount("appliance", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=755,size=1m"); err != nil {
				return &os.PathError{Op: "mount", Path: path, Err: err}
			}
			empty = append(empty, path)
		case bind && slices.ContainsFunc(empty, func(dir string) bool { return strings.HasPrefix(path, filepath.Clean(dir)+"/") }):
			if err := os.MkdirAll(path, 0o755); err != nil {
				return err
			}
			if err := unix.Mount(fmt.Sprintf("/proc/self/fd/%d", fd), path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
				return &os.PathError{Op: "bind", Path: path, Err: err}
			}
		}
	}
	for _, dir := range empty {
		if err := unix.Mount("", dir, "", unix.MS_REMOUNT|unix.MS_BIND|unix.MS_RDONLY|unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
			return &os.PathError{Op: "remount", Path: dir, Err: err}
		}
	}
	return nil
}

// said passes the exit code on of a command that has said what was wrong.
func said(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &saidError{code: exit.ExitCode()}
	}
	return err
}
