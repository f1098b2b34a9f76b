package main

import (
	"bytes"
	"context"
	"encoding/json"
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
	c, err := ownerCommand(ctx, id, "look-at-servers")
	if err != nil {
		return nil, err
	}
	if c == nil {
		registry.LookAtServers(ctx, id.Config, func(f finding.Finding) { all = append(all, f) })
		return all, nil
	}
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return nil, fmt.Errorf("as user %d, who runs the registry: %w: %s", id.UID, err, bytes.TrimSpace(said.Bytes()))
	}
	return all, json.Unmarshal(out.Bytes(), &all)
}

// newLookAtServersCommand is for lookAtServers alone.
func newLookAtServersCommand(std stdio) *cobra.Command {
	var o locateOptions
	c := &cobra.Command{
		Use:    "look-at-servers",
		Short:  "Print whether the database in PostgreSQL and the storage in S3 of an appliance can be used",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := o.load()
			if err != nil {
				return err
			}
			all, err := lookAtServers(c.Context(), id)
			if err != nil {
				return err
			}
			return printJSON(std.out, all)
		},
	}
	o.addFlags(c.Flags())
	return c
}
