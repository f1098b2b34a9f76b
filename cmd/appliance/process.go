package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
)

const (
	// stopLimit is how long a command may go on after a signal. It is safe against a crash, and may
	// wait for what never comes: a FIFO without a writer, a dead share.
	stopLimit = 12 * time.Second
	// drainLimit is the same for a daemon, which lets requests under way finish.
	drainLimit = time.Minute
	// sooner is how much earlier a child is killed. It ends by itself as much earlier, if it can.
	sooner = 2 * time.Second
)

func patienceOf(root *cobra.Command, args []string) time.Duration {
	limit := stopLimit
	if c, _, err := root.Find(args); err == nil && c.Name() == "serve" {
		limit = drainLimit
	}
	if os.Getenv(calledByRoot) != "" {
		limit -= 2 * sooner
	}
	return limit
}

// endInTime ends the process when the command goes on for longer than limit after a signal, which
// ends ctx, and at once on a second signal. The caller calls ended when the command has ended.
func endInTime(ctx context.Context, stop func(), limit time.Duration, std stdio) (ended func()) {
	done := make(chan struct{})
	go func() {
		select {
		case <-done:
			return
		case <-ctx.Done():
		}
		stop() // from now on signals do what they do without us
		select {
		case <-done:
		case <-time.After(limit):
			fmt.Fprintf(std.plain().err, "error: the command did not end within %s of the signal, and was ended\n", limit)
			os.Exit(exitError)
		}
	}()
	return func() { close(done) }
}

// asOwner runs this command again as the store's owner if root has called it, and reports whether.
func asOwner(ctx context.Context, id *installer.Identity, std stdio, more ...string) (done bool, err error) {
	c, err := ownerCommand(ctx, id, append(slices.Clone(os.Args[1:]), more...)...)
	if c == nil || err != nil {
		return false, err
	}
	c.Stdin, c.Stdout, c.Stderr = std.in, std.out, std.err
	if std.in == os.Stdin {
		c.Stdin = nil // the terminal is root's
	}
	// The child ends with this process, or rather, for the kernel, with this thread.
	c.SysProcAttr.Pdeathsig = syscall.SIGTERM
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err = c.Run()
	if errors.Is(err, context.Canceled) && c.ProcessState.Success() {
		return true, nil // it was told of the signal, and ended as it should
	}
	return true, said(err)
}

// ownerCommand returns installer.Identity.Command with the environment and time limits of a child.
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

// askOwner runs a command of this program as the store's owner if root has called it, reads the JSON that it prints, and
// reports whether.
func askOwner(ctx context.Context, id *installer.Identity, command string, answer any) (done bool, err error) {
	c, err := ownerCommand(ctx, id, command)
	if c == nil || err != nil {
		return false, err
	}
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return true, fmt.Errorf("as user %d, who runs the registry: %w: %s", id.UID, err, bytes.TrimSpace(said.Bytes()))
	}
	return true, json.Unmarshal(out.Bytes(), answer)
}

// newInternalCommand returns a command that only this program runs. Its flags name the appliance that run is called with.
func newInternalCommand(o *locateOptions, use, short string, run func(context.Context, *installer.Identity) error) *cobra.Command {
	c := &cobra.Command{
		Use:    use,
		Short:  short,
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := o.load()
			if err != nil {
				return err
			}
			return run(c.Context(), id)
		},
	}
	o.addFlags(c.Flags())
	return c
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
