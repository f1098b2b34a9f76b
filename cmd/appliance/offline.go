package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newOfflineCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "offline [on|off]",
		Short: "Have the registry on this host ask no other host",
		Long: `Have the registry on this host ask no other host, or ask again; without an argument, print which it does.
While it is offline all that is held is served, and what is not held is refused at once, as is a run of sync. Requests
to other hosts that are under way end. It stays so over restarts. Commands such as appliance mirror are not bound by it.`,
		Example: "  appliance offline on",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return runOffline(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	return c
}

func runOffline(ctx context.Context, std stdio, o askOptions, args []string) error {
	ask := func(control *client.Client) (api.Offline, error) { return control.Offline(ctx) }
	if len(args) == 1 {
		if args[0] != "on" && args[0] != "off" {
			return hint.New(fmt.Errorf("%q is neither on nor off", args[0]), "appliance offline on, or appliance offline off")
		}
		ask = func(control *client.Client) (api.Offline, error) { return control.SetOffline(ctx, args[0] == "on") }
	}
	o.existing = true
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		state, err := ask(control)
		if err != nil {
			return err
		}
		return show(std.out, o.output, state, printOffline)
	})
}

func printOffline(w io.Writer, s api.Offline) {
	if s.Offline {
		fmt.Fprintln(w, "offline: no other host is asked")
		return
	}
	fmt.Fprintln(w, "online: upstreams and the sources of sync are asked")
}
