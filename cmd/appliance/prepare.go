package main

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/installer"
)

type prepareOptions struct {
	quayRoot string
	hostname string
}

func (o *prepareOptions) addFlags(f *pflag.FlagSet) {
	pathVar(f, &o.quayRoot, "quayRoot", "r", "install directory (default ~/quay-install)")
	f.StringVar(&o.hostname, "quayHostname", "", "name, and optionally port, that clients will use: HOST[:PORT]")
}

func newPrepareCommand(std stdio) *cobra.Command {
	var o prepareOptions
	c := &cobra.Command{
		Use:   "prepare",
		Short: "Write configuration and certificates for a registry that systemd does not run",
		Long: `Write configuration, CA and certificate for a registry that something other than systemd runs, and
nothing else. Then:

  appliance user add init --role admin --quayRoot DIR
  appliance serve --quayRoot DIR`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := noEmptyValue(c, "quayHostname"); err != nil {
				return err
			}
			return runPrepare(c.Context(), std, o)
		},
	}
	o.addFlags(c.Flags())
	return c
}

func runPrepare(ctx context.Context, std stdio, o prepareOptions) error {
	host, port, err := splitHostPort(o.hostname)
	if err != nil {
		return err
	}
	root := o.quayRoot
	if root != "" {
		if root, err = filepath.Abs(root); err != nil {
			return err
		}
	}
	plan, err := installer.PlanPrepare(ctx, installer.Request{Hostname: host, Port: port,
		QuayRoot: root}, installerDeps())
	if err != nil {
		return err
	}
	result, _, err := new(placeOptions).carryOut(ctx, std, plan)
	if err != nil {
		return err
	}
	if !result.Changed {
		fmt.Fprintln(std.out, "nothing had to be changed")
	}
	fmt.Fprintf(std.out, "prepared in %s for https://%s; run it with: %s %s\n", result.QuayRoot, result.Address,
		typed("appliance serve --quayRoot"), result.QuayRoot)
	return nil
}
