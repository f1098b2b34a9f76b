package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/docs"
	"github.com/mirror-appliance/appliance/internal/hint"
)

func newDocsCommand(std stdio) *cobra.Command {
	var serve, output string
	c := &cobra.Command{
		Use:   "docs [TOPIC]",
		Short: "Print the documentation, which is in this program, or serve it to a browser",
		Long: `Print a page of the documentation, which is in this program, in Markdown; without a topic, list the pages. --serve
serves them as HTML, on an address of this host alone, until Ctrl-C.`,
		Example: `  appliance docs operate | less
  appliance docs --serve localhost:8080`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case c.Flags().Changed("serve") && len(args) > 0:
				return usageError(c, errors.New("--serve serves all pages: leave the topic out"))
			case c.Flags().Changed("serve"):
				return serveDocs(c.Context(), std, serve)
			case len(args) == 0:
				return show(std.out, output, docs.Topics(), printTopics)
			}
			text, err := docs.Page(strings.TrimSuffix(args[0], ".md"))
			if err != nil {
				return hint.New(fmt.Errorf("there is no page %q", args[0]), "appliance docs lists the pages")
			}
			_, err = std.out.Write(text)
			return err
		},
	}
	c.Flags().StringVar(&serve, "serve", "", "serve the pages as HTML at this address of this host, such as localhost:8080; port 0 is any that is free")
	addOutputFlag(c.Flags(), &output)
	return c
}

func printTopics(w io.Writer, all []docs.Topic) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, topic := range all {
		fmt.Fprintln(t, topic.Name+"\t"+topic.Title)
	}
	_ = t.Flush() // w keeps an error, see output
}

// serveDocs serves the documentation until ctx ends. Other hosts do not reach it: there is no login.
func serveDocs(ctx context.Context, std stdio, address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return hint.New(fmt.Errorf("--serve %q is not an address with a port", address), "for example --serve localhost:8080")
	}
	if ip, err := netip.ParseAddr(host); host != "localhost" && (err != nil || !ip.IsLoopback()) {
		return hint.New(fmt.Errorf("--serve %q is not an address of this host alone", address), "use localhost:"+port+
			", and from another host: ssh -L "+port+":localhost:"+port+" HOST")
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if err != nil {
		return hint.New(fmt.Errorf("--serve: %w", err), "choose another port, or 0 for any that is free")
	}
	fmt.Fprintf(std.out, "the documentation is at http://%s/, until Ctrl-C\n", listener.Addr())
	server := &http.Server{Handler: docs.Handler(), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() }) // readers lose nothing
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
