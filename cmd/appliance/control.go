package main

import (
	"context"
	"errors"
	"io/fs"

	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/store"
)

// withControl calls f with the control API of the daemon on this host. When none runs, the store is opened here,
// under the identity of its owner and under the lock that makes a second owner impossible, and answers itself.
func withControl(ctx context.Context, std stdio, o *locateOptions, f func(*admin.Client) error) (err error) {
	path, cfg, err := o.load()
	if err != nil {
		return err
	}
	client := admin.NewUnixClient(cfg.ControlSocket)
	defer client.Close()
	_, err = client.Status(ctx)
	switch {
	case err == nil:
		return f(client)
	case !errors.Is(err, admin.ErrNotRunning):
		return err
	}
	if done, err := asOwner(ctx, path, cfg, std); done || err != nil {
		return err
	}
	stop, err := registry.Offline(ctx, cfg, registry.Options{Version: version, Log: newLog(std.err, "text", false)})
	if errors.As(err, new(*store.LockedError)) {
		// A daemon has come up between the two looks, or another command holds the store.
		return err
	}
	if errors.Is(err, fs.ErrPermission) {
		return &hintedError{err: err, hint: "run the command as root, or as the user who installed the appliance"}
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	return f(client)
}
