package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/registry"
)

// lookAtServer looks at the database in PostgreSQL of a configuration. Root does it as the user whose store it is: a server
// may know that user by its login at this host, and the file of passwords is that user's.
func lookAtServer(ctx context.Context, conf string) (at installer.Server, err error) {
	id, err := installer.Locate(installerDeps(), conf, "")
	if err != nil {
		return at, err
	}
	c, err := ownerCommand(ctx, id, "look-at-server")
	if err != nil {
		return at, err
	}
	if c == nil {
		state, err := registry.ServerState(ctx, id.Config)
		return installer.Server{Have: installer.Schema(state.Have), Known: installer.Schema(state.Known), Daemons: state.Daemons}, err
	}
	var out, said bytes.Buffer
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return at, fmt.Errorf("as user %d, who runs the registry: %w: %s", id.UID, err, bytes.TrimSpace(said.Bytes()))
	}
	var looked lookedAt
	if err := json.Unmarshal(out.Bytes(), &looked); err != nil {
		return at, err
	}
	return looked.Server, looked.Failure.err()
}

// lookedAt is what the process of that user prints.
type lookedAt struct {
	Server  installer.Server
	Failure *toldError `json:",omitempty"`
}

// toldError is an error of another process.
type toldError struct{ Text, Next string }

func (e *toldError) Error() string { return e.Text }

// Hint returns the next step.
func (e *toldError) Hint() string { return e.Next }

func (e *toldError) err() error {
	if e == nil {
		return nil
	}
	return e
}

// newLookAtServerCommand is for lookAtServer alone.
func newLookAtServerCommand(std stdio) *cobra.Command {
	var o locateOptions
	c := &cobra.Command{
		Use:    "look-at-server",
		Short:  "Print what the database in PostgreSQL of an appliance is",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			id, err := o.load()
			if err != nil {
				return err
			}
			var looked lookedAt
			if looked.Server, err = lookAtServer(c.Context(), id.Path); err != nil {
				looked.Failure = &toldError{err.Error(), hintOf(err)}
			}
			return printJSON(std.out, looked)
		},
	}
	o.addFlags(c.Flags())
	return c
}
