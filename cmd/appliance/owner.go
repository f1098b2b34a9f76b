package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
)

// asOwner runs this very command again as the user whose store it is, if root has called it, and reports whether it did.
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

// ownerCommand returns that of installer.Identity.Command, with the environment and the patience of a command that another
// one runs.
func ownerCommand(ctx context.Context, id *installer.Identity, args ...string) (*exec.Cmd, error) {
	c, err := id.Command(ctx, args...)
	if c == nil || err != nil {
		return nil, err
	}
	c.Env = append(os.Environ(), calledByRoot+"=1")
	if c.WaitDelay = stopLimit - sooner; slices.Contains(args, "serve") {
		c.WaitDelay = drainLimit - sooner
	}
	return c, nil
}

// newEnterCommand is for installer.Identity.Command alone.
func newEnterCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "enter UID GID CLOSED BEYOND -- COMMAND",
		Short:  "Run a command of this program as another user, in a mount namespace",
		Hidden: true,
		Args:   cobra.MinimumNArgs(5),
		RunE:   func(_ *cobra.Command, args []string) error { return installer.Enter(args) },
	}
}

// said passes on the exit code of a command that has told its error.
func said(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return &saidError{code: exit.ExitCode()}
	}
	return err
}
