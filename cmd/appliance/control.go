package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// withControl calls f with a client of the daemon on this host. If none runs, this program opens the store as its owner,
// under the lock that excludes a second owner, and answers the control API itself.
func withControl(ctx context.Context, std stdio, o *locateOptions, f func(*client.Client) error) (err error) {
	id, err := o.load()
	if err != nil {
		return err
	}
	control := client.NewUnixOf(id.Config.ControlSocket, id.UID)
	defer control.Close()
	err = control.Ping(ctx)
	switch {
	case err == nil:
		return f(control)
	case !errors.Is(err, client.ErrNotRunning):
		return err
	}
	if o.held {
		if err := exists(id.Config.Database); err != nil {
			return err
		}
	}
	stop, err := openControl(ctx, id, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return f(control)
}

// exists returns an error if there is no database: opening the store would make one, and report that all is well with it.
func exists(database string) error {
	_, err := os.Stat(database)
	if errors.Is(err, fs.ErrNotExist) {
		return hint.New(fmt.Errorf("there is no database at %s: the registry has never run, or its database is lost", database),
			"start the registry, or put a backup there: appliance restore BACKUP")

	}
	return nil // another error is told in full by what opens it
}

// openControl answers the control API in this process or, if root runs it and another user owns the store, in a process of
// the owner. The command itself, such as writing a backup, keeps the rights of its caller.
func openControl(ctx context.Context, id *installer.Identity, std stdio) (stop func() error, err error) {
	c, err := ownerCommand(ctx, id, "control")
	if err != nil {
		return nil, err
	}
	if c != nil {
		return startControl(ctx, c, std)
	}
	stop, err = registry.Offline(ctx, id.Config, registry.Options{Version: version, Log: commandLog(std.err)})
	return stop, ownersOnly(err)
}

// ownersOnly adds to a permission error which user may open the store.
func ownersOnly(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return hint.New(err, deniedHint(err))
}

// startControl starts a control command and returns when it answers. It ends with its standard input, so also with
// this process, however that ends.
func startControl(ctx context.Context, c *exec.Cmd, std stdio) (stop func() error, err error) {
	c.Stderr = std.err
	hold, err := c.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := c.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.Start(); err != nil {
		return nil, fmt.Errorf("open the store as its owner: %w", err)
	}
	stop = func() error {
		_ = hold.Close() // it may have ended
		err := c.Wait()
		if ctx.Err() != nil { // and with it the command, which is not news
			return nil
		}
		return said(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != controlReady {
		if stopped := stop(); stopped != nil {
			return nil, stopped
		}
		return nil, errors.Join(ctx.Err(), err)
	}
	return stop, nil
}

// controlReady is what the control command says when it answers.
const controlReady = "ready\n"

// newControlCommand is for startControl alone.
func newControlCommand(std stdio) *cobra.Command {
	var o locateOptions
	c := &cobra.Command{
		Use:    "control",
		Short:  "Answer the control API of a registry that does not run, until standard input ends",
		Hidden: true,
		Args:   noArguments,
		RunE:   func(c *cobra.Command, _ []string) error { return runControl(c.Context(), std, o) },
	}
	o.addFlags(c.Flags())
	return c
}

func runControl(ctx context.Context, std stdio, o locateOptions) error {
	id, err := o.load()
	if err != nil {
		return err
	}
	stop, err := openControl(ctx, id, std)
	if err != nil {
		return err
	}
	if _, err := io.WriteString(std.out, controlReady); err != nil {
		return errors.Join(err, stop())
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = io.Copy(io.Discard, std.in)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
	}
	return stop()
}

// withDaemon calls f with the control API of the daemon on this host, which must run.
func withDaemon(ctx context.Context, o *locateOptions, f func(*client.Client) error) error {
	id, err := o.load()
	if err != nil {
		return err
	}
	control := client.NewUnixOf(id.Config.ControlSocket, id.UID)
	defer control.Close()
	if err := control.Ping(ctx); err != nil {
		return err
	}
	return f(control)
}
