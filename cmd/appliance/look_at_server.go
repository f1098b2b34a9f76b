package main

import (
	"context"

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
	var looked lookedAt
	if done, err := askOwner(ctx, id, "look-at-server", &looked); err != nil {
		return at, err
	} else if done {
		return looked.Server, looked.Failure.err()
	}
	state, err := registry.ServerState(ctx, id.Config)
	return installer.Server{Have: installer.Schema(state.Have), Known: installer.Schema(state.Known), Daemons: state.Daemons}, err
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
	return newInternalCommand(new(locateOptions), "look-at-server", "Print what the database in PostgreSQL of an appliance is",
		func(ctx context.Context, id *installer.Identity) (err error) {
			var looked lookedAt
			if looked.Server, err = lookAtServer(ctx, id.Path); err != nil {
				looked.Failure = &toldError{err.Error(), hintOf(err)}
			}
			return printJSON(std.out, looked)
		})
}
