package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cmd/simulate/herd"
)

func newHerdCommand() *cobra.Command {
	o := herd.Options{Step: 0.2, Limit: 24 * 3600, Seed: 1}
	var layers []int64
	var nic, nodeNIC, uplink, cpu float64
	var output string
	cmd := &cobra.Command{
		Use:   "herd",
		Short: "Many nodes pull an image at once that the appliance does not have yet",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			for _, mb := range layers {
				o.Layers = append(o.Layers, mb*megabyte)
			}
			o.NIC, o.NodeNIC, o.Uplink, o.CPU = nic*gigabit, nodeNIC*gigabit, uplink*gigabit, cpu*megabyte
			result, err := herd.Run(o)
			if err != nil {
				return err
			}
			return printResult(cmd.OutOrStdout(), output, result, herdRows(result))
		},
	}
	f := cmd.Flags()
	f.IntVar(&o.Nodes, "nodes", 5000, "nodes")
	f.Int64SliceVar(&layers, "layers", []int64{80, 25, 5, 120, 20, 150}, "megabytes of each layer")
	f.Float64Var(&o.Spread, "spread", 10, "seconds in which the nodes begin")
	f.Float64Var(&nodeNIC, "node-nic", 10, "Gbit/s of a node")
	f.IntVar(&o.Daemons, "daemons", 1, "appliances, each with a storage of its own")
	f.BoolVar(&o.Shared, "shared", false, "one storage for all of them")
	f.Float64Var(&nic, "nic", 10, "Gbit/s of an appliance")
	f.Float64Var(&cpu, "cpu", 3800, "megabytes a second that the processors of an appliance encrypt and send")
	f.Float64Var(&uplink, "uplink", 1, "Gbit/s from the upstream")
	f.IntVar(&o.Connections, "connections", 2048, "connections of a user at an appliance (0: any number)")
	f.IntVar(&o.Requests, "requests", 4096, "requests of a user at an appliance under way (0: any number)")
	f.Float64Var(&o.RetryAfter, "retry-after", 1, "seconds in the answer to a request too many")
	f.StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

func herdRows(r herd.Result) [][2]string {
	return [][2]string{
		{"nodes with the image", fmt.Sprint(r.Pulled)},
		{"first, median, p99, last", fmt.Sprintf("%.0f s, %.0f s, %.0f s, %.0f s", r.First, r.Median, r.P99, r.Last)},
		{"images fetched from the upstream", fmt.Sprintf("%.2f", r.Fetched)},
		{"images sent for each node", fmt.Sprintf("%.2f", r.Sent)},
		{"connections refused", fmt.Sprint(r.Refused)},
		{"answers of 429", fmt.Sprint(r.TooMany)},
		{"pulls begun again", fmt.Sprint(r.Failed)},
		{"connections at one appliance", fmt.Sprint(r.Peak)},
	}
}
