package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// withServers adds to the error of a daemon that does not run which of the servers that its start needs cannot be used:
// it may have ended for that. It keeps other errors.
func withServers(ctx context.Context, o *locateOptions, err error) error {
	if !errors.Is(err, client.ErrNotRunning) {
		return err
	}
	id, located := o.load()
	if located != nil {
		return err
	}
	all, looked := lookAtServers(ctx, id)
	if looked != nil {
		return err
	}
	for _, f := range all {
		if f.Level == finding.Failed {
			err = hint.New(fmt.Errorf("%w; %s", err, f.Line()), f.Hint)
		}
	}
	return err
}

// lookAtServers looks at the database in PostgreSQL and the storage in S3 of an appliance, as the user who runs it.
func lookAtServers(ctx context.Context, id *installer.Identity) (all []finding.Finding, err error) {
	if !registry.NeedsServers(id.Config) {
		return nil, nil
	}
	if done, err := askOwner(ctx, id, "look-at-servers", &all); done || err != nil {
		return all, err
	}
	registry.LookAtServers(ctx, id.Config, func(f finding.Finding) { all = append(all, f) })
	return all, nil
}

// newLookAtServersCommand is for lookAtServers alone.
func newLookAtServersCommand(std stdio) *cobra.Command {
	return newInternalCommand(new(locateOptions), "look-at-servers", "Print whether the database in PostgreSQL and the storage in S3 of an appliance can be used",
		func(ctx context.Context, id *installer.Identity) error {
			all, err := lookAtServers(ctx, id)
			if err != nil {
				return err
			}
			return printJSON(std.out, all)
		})
}
