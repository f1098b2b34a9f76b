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
	cmd.AddCommand(newHerdCommand(), newFeedCommand())
	return cmd
}

// The units of the flags.
const (
	megabyte = 1e6
	gigabit  = 1e9 / 8
)

// printResult prints rows as a table, or the result as JSON.
func printResult(w io.Writer, output string, result any, rows [][2]string) error {
	switch output {
	case "json":
		return json.NewEncoder(w).Encode(result)
	case "text":
	default:
		return fmt.Errorf("--output is %q, and can be text or json", output)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, row := range rows {
		fmt.Fprintf(t, "%s\t%s\n", row[0], row[1])
	}
	return t.Flush()
}
