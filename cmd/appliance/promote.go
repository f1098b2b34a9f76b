package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type promoteOptions struct {
	askOptions
	force bool
}

func newPromoteCommand(std stdio) *cobra.Command {
	var o promoteOptions
	c := &cobra.Command{
		Use:   "promote",
		Short: "Have the registry on this host take changes, in the place of the one that it follows",
		Long: `Have the registry on this host take changes, in the place of the one that it follows. The other one ceases to take
changes, the last of them arrive, and then this one takes them: nothing is lost, and at no moment both do. An
interrupted promotion goes on when the command is repeated.

Where the other one does not answer the command is refused, with what is known of it; with --force it goes on. What the
other one has had since this one was last equal to it is then not here. It is told as soon as it is reached again, and
asks by itself when it starts; make sure that it is off, since until then it takes changes if clients reach it.
Where the other one answers that it does not know this one as its follower, --force is refused as well.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runPromote(c.Context(), std, o) },
	}
	o.addFlags(c.Flags())
	c.Flags().BoolVar(&o.force, "force", false, "also if the other one does not answer, or was not copied to the end")
	return c
}

func runPromote(ctx context.Context, std stdio, o promoteOptions) error {
	say, last := nowAndThen(std.err), ""
	_, err := askDaemon(ctx, std, &o.askOptions, func(control *client.Client) (api.Promoted, error) {
		return control.Promote(ctx, api.PromoteRequest{Force: o.force}, func(p api.PromoteProgress) {
			if p.Step != last {
				last = p.Step
				fmt.Fprintln(std.err, plain.Line(p.Step))
				return
			}
			say("%s: %s to arrive", p.Step, count(int(p.Changes), "change"))
		})
	}, printPromoted)
	return err
}

func printPromoted(w io.Writer, p api.Promoted) {
	if p.Already {
		fmt.Fprintf(w, "this registry takes changes already (generation %d)\n", p.Family.Generation)
	} else {
		fmt.Fprintf(w, "this registry takes changes now (generation %d)\n", p.Family.Generation)
	}
	if p.Forced != "" {
		fmt.Fprintln(w, "by force:", plain.Line(p.Forced))
	}
	if len(p.Family.Untold) > 0 {
		fmt.Fprintf(w, "not told yet, and tried again until it is: %s\n", plain.Line(strings.Join(p.Family.Untold, " ")))
	}
}
