package main

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer/remote"
	"github.com/mirror-appliance/appliance/internal/hint"
)

// remoteCommand is the command that carries out a request on the host of remoteOptions.
const remoteCommand = "remote-run"

// newRemoteRunCommand is for remote.Run alone.
func newRemoteRunCommand(std stdio) *cobra.Command {
	return &cobra.Command{
		Use:    remoteCommand,
		Short:  "Carry out a command that comes on standard input",
		Hidden: true,
		Args:   noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return remote.Serve(c.Context(), std.in, std.out, version, carryOutRequest)
		},
	}
}

// carryOutRequest runs a command with its flags, which are read as those of a command line are.
func carryOutRequest(ctx context.Context, r remote.Request, s remote.Streams) int {
	std := stdio{in: s.In, out: s.Out, err: s.Err, far: true, shown: s.Shown}
	root := newRootCommand(std)
	args, err := requestArgs(root, r)
	if err == nil {
		root.SetArgs(args)
		err = root.ExecuteContext(ctx)
	}
	return exitCode(std.plain(), err)
}

// requestArgs makes a command line of a request. It is not that of the process, where passwords
// would be seen.
func requestArgs(root *cobra.Command, r remote.Request) ([]string, error) {
	var c *cobra.Command
	for _, known := range root.Commands() {
		if _, ok := known.Annotations[remotely]; ok && known.Name() == r.Command {
			c = known
		}
	}
	if c == nil {
		return nil, fmt.Errorf("%q is not a command that is carried out for another host", r.Command)
	}
	args := []string{r.Command}
	for _, f := range r.Flags {
		known := c.Flags().Lookup(f.Name)
		if known == nil || known.Name != f.Name || slices.Contains(remoteFlags, f.Name) && f.Name != "targetHostname" {
			return nil, fmt.Errorf("%q is not a flag of %s that another host may give", f.Name, r.Command)
		}
		args = append(args, "--"+f.Name+"="+f.Value)
	}
	return append(append(args, "--"), r.Args...), nil
}

// exitCode reports an error and returns the exit code that it has.
func exitCode(std stdio, err error) int {
	if err == nil {
		return exitOK
	}
	report(std.err, err)
	var coder exitCoder
	if errors.As(err, &coder) {
		return coder.ExitCode()
	}
	return exitError
}

// seen waits until what was written has been shown.
func (s stdio) seen() error {
	if s.shown == nil {
		return nil
	}
	if err := s.shown(); err != nil {
		return hint.New(fmt.Errorf("it is not known whether the result was shown: %w", err), "run the same command again, which shows it")
	}
	return nil
}
