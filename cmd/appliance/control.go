package main

import (
	"context"
	"errors"
	"io"
	"io/fs"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// locateOptions are which appliance of this host a command is about.
type locateOptions struct {
	config   string
	quayRoot string
	existing bool // the command is about existing content, and does not create a database
}

func (o *locateOptions) addFlags(f *pflag.FlagSet) {
	pathVar(f, &o.config, "config", "", "its config.yaml (default: that of the installed service)")
	pathVar(f, &o.quayRoot, "quayRoot", "r", "its install directory (default: that of the installed service)")
}

// askOptions are those of a command that asks the daemon of this host, and prints what it answers.
type askOptions struct {
	locateOptions
	output string
}

func (o *askOptions) addFlags(f *pflag.FlagSet) {
	o.locateOptions.addFlags(f)
	addOutputFlag(f, &o.output)
}

func (o *locateOptions) load() (*installer.Identity, error) {
	return installer.Locate(installerDeps(), o.config, o.quayRoot)
}

// withControl calls f with the control API of the daemon on this host. If none runs, the store is
// opened by its owner: by this process, or by one of the owner's if root runs this one. The command
// itself, such as writing a backup, keeps the rights of its caller.
func withControl(ctx context.Context, std stdio, o *locateOptions, f func(*client.Client) error) error {
	id, err := o.load()
	if err != nil {
		return err
	}
	open := func() (stop func() error, err error) {
		if o.existing {
			if err := registry.CheckDatabase(id.Config); err != nil {
				return nil, err
			}
		}
		args := []string{"control"}
		if o.existing {
			args = append(args, "--existing")
		}
		c, err := ownerCommand(ctx, id, args...)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.Stderr = std.err
			return registry.StartOffline(ctx, c)
		}
		stop, err = registry.Offline(ctx, id.Config, offlineOptions(std, o.existing))
		return stop, ownersOnly(err)
	}
	return said(registry.Control(ctx, id.Config, id.UID, open, f))
}

func offlineOptions(std stdio, existing bool) registry.Options {
	return registry.Options{Version: version, Log: commandLog(std.err), Existing: existing}
}

// askDaemon prints what the daemon of this host, which must run, answers to ask.
func askDaemon[T any](ctx context.Context, std stdio, o *askOptions, ask func(*client.Client) (T, error), print func(io.Writer, T)) (answer T, err error) {
	err = withDaemon(ctx, &o.locateOptions, func(control *client.Client) (err error) {
		if answer, err = ask(control); err == nil {
			err = show(std.out, o.output, answer, print)
		}
		return err
	})
	return answer, err
}

// withDaemon calls f with the control API of the daemon on this host, which must run.
func withDaemon(ctx context.Context, o *locateOptions, f func(*client.Client) error) error {
	id, err := o.load()
	if err != nil {
		return err
	}
	return registry.Daemon(ctx, id.Config, id.UID, f)
}

// ownersOnly adds to a permission error which user may open the store.
func ownersOnly(err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return hint.New(err, deniedHint(err))
}

// newControlCommand is for registry.StartOffline alone.
func newControlCommand(std stdio) *cobra.Command {
	var o locateOptions
	c := newInternalCommand(&o, "control", "Answer the control API of a registry that does not run, until standard input ends",
		func(ctx context.Context, id *installer.Identity) error {
			if done, err := asOwner(ctx, id, std); done || err != nil {
				return err
			}
			return ownersOnly(registry.ServeOffline(ctx, id.Config, offlineOptions(std, o.existing), std.in, std.out))
		})
	c.Flags().BoolVar(&o.existing, "existing", false, "refuse an empty database")
	return c
}
