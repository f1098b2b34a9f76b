// Command sample-upstream is a development tool: it serves generated content on loopback as if it
// were the registries, the update service and the chart repository that an appliance mirrors from,
// and it checks what arrived.
//
// It is not shipped. It serves plain HTTP only: package upstream tests TLS.
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
	var o serveOptions
	cmd := &cobra.Command{
		Use:           "sample-upstream",
		Short:         "Serve generated content to mirror from (plain HTTP, for development)",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), cmd.OutOrStdout(), o)
		},
	}
	cmd.Flags().StringVar(&o.listen, "listen", "127.0.0.1:0", "address to serve on; references in the content name it")
	cmd.Flags().StringVar(&o.readyFile, "ready-file", "", "file to write the address to when serving")
	cmd.Flags().StringVar(&o.keyFile, "key-file", "", "file to write the public key of the releases' signatures to")
	cmd.Flags().IntVar(&o.fail, "fail", 0, "percent of the registry's requests that fail: 503, and connections closed before an answer or within it")
	cmd.AddCommand(newDigestCommand(), newCheckCommand())
	return cmd
}
