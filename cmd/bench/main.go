// Command bench is a development tool: it measures the figures that the registry is held to, each as a
// ratio to a probe that does the least that the same work can be done with on this machine. make bench
// runs it; docs/performance.md says what each probe is and why it is the limit.
//
// Every server runs as a process of its own (this program, started again), so that its CPU and its
// memory are its own and not the load generator's. Subject and probe take turns in short rounds, and
// what is compared is the median over rounds of their ratio in one round: on a machine that others use
// too, the ratio within a second is steady where the figures themselves are not.
//
// Package testing's benchmarks were refused for this: they have one process, no probe and no rounds.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
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
	var o options
	cmd := &cobra.Command{
		Use:   "bench",
		Short: "Measure the registry against what this machine can do",
		Long: `Measure the registry against what this machine can do, print a table and write it as JSON.
A missed target is a line of the table. The exit code is 1 only when something broke.`,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), cmd.OutOrStdout(), o) },
	}
	o.addFlags(cmd.Flags())
	cmd.AddCommand(newProbeCommand(), newSubjectCommand(), newLinkCommand(), newScanCommand())
	return cmd
}
