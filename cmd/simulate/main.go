// Command simulate is a development tool: it works out what no machine here can show, such as 5,000 nodes
// that pull one image, with the figures of docs/scale.md. It is not shipped.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cmd/simulate/herd"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newRootCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		stop()
		os.Exit(1)
	}
}

func newRootCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "simulate",
		Short:         "Work out what no machine here can show (for development)",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	cmd.AddCommand(newHerdCommand())
	return cmd
}

const (
	megabyte = 1e6
	gigabit  = 1e9 / 8
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
			return printHerd(cmd.OutOrStdout(), output, result)
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

func printHerd(w io.Writer, output string, r herd.Result) error {
	switch output {
	case "json":
		return json.NewEncoder(w).Encode(r)
	case "text":
	default:
		return fmt.Errorf("--output is %q, and can be text or json", output)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "nodes with the image\t%d\n", r.Pulled)
	fmt.Fprintf(t, "first, median, p99, last\t%.0f s, %.0f s, %.0f s, %.0f s\n", r.First, r.Median, r.P99, r.Last)
	fmt.Fprintf(t, "images fetched from the upstream\t%.2f\n", r.Fetched)
	fmt.Fprintf(t, "images sent for each node\t%.2f\n", r.Sent)
	fmt.Fprintf(t, "connections refused\t%d\n", r.Refused)
	fmt.Fprintf(t, "answers of 429\t%d\n", r.TooMany)
	fmt.Fprintf(t, "pulls begun again\t%d\n", r.Failed)
	fmt.Fprintf(t, "connections at one appliance\t%d\n", r.Peak)
	return t.Flush()
}
