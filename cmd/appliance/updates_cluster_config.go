package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type updatesClusterConfigOptions struct {
	clusterConfigOptions
	operator bool
}

func newUpdatesClusterConfigCommand(std stdio) *cobra.Command {
	var o updatesClusterConfigOptions
	c := &cobra.Command{
		Use:   "cluster-config [docker://HOST:PORT]",
		Short: "Print the resources by which a running cluster asks this appliance for updates",
		Long: `Print the resources by which a running cluster asks the appliance of this host, or another, for updates: its CA among
those that the cluster trusts in requests, and its address. With --operator they are those of OpenShift's update service
(OSUS), an operator that runs in the cluster and reads releases and graph data from the appliance. With --also they keep
the CAs of the other appliances that the cluster has mirrors at: it is this one that is asked for updates.`,
		Example: "  appliance updates cluster-config | oc apply -f -",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return runUpdatesClusterConfig(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	pathVar(c.Flags(), &o.first.ca, "ca", "", "the appliance's CA in PEM form (default: that of the appliance)")
	o.also.addFlags(c.Flags())
	c.Flags().BoolVar(&o.operator, "operator", false, "print the resources of OpenShift's update service instead")
	return c
}

func runUpdatesClusterConfig(ctx context.Context, std stdio, o updatesClusterConfigOptions, args []string) error {
	o.user = "-" // what a cluster asks for updates with needs no login
	var f cluster.Facts
	err := o.also.check()
	if err == nil && len(args) == 0 {
		err = o.here(&f)
	} else if err == nil {
		err = o.there(ctx, &f, args[0])
	}
	if err == nil {
		err = o.others(ctx, &f)
	}
	if err != nil {
		return err
	}
	if o.operator {
		err = o.ask(ctx, std, args, func(control *client.Client) error {
			_, err := served(ctx, control, &f)
			return err
		})
		if err != nil {
			return err
		}
	}
	text, warnings, err := cluster.UpdateResources(f, o.operator)
	if err != nil {
		return err
	}
	for _, w := range warnings {
		fmt.Fprintln(std.err, plain.Line("warning: "+w))
	}
	_, err = std.out.Write(text)
	return err
}
