package main

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/registry/admin"
)

type statusOptions struct {
	locateOptions
	output string
}

func newStatusCommand(std stdio) *cobra.Command {
	var o statusOptions
	c := &cobra.Command{
		Use:   "status",
		Short: "How the registry on this host is",
		Args:  noArguments,
		RunE:  func(c *cobra.Command, _ []string) error { return runStatus(c.Context(), std, o) },
	}
	o.locateOptions.addFlags(c.Flags())
	addOutputFlag(c.Flags(), &o.output)
	return c
}

// runStatus asks the daemon only: opening the store to answer would say nothing of the registry.
func runStatus(ctx context.Context, std stdio, o statusOptions) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	_, cfg, err := o.load()
	if err != nil {
		return err
	}
	client := admin.NewUnixClient(cfg.ControlSocket)
	defer client.Close()
	status, err := client.Status(ctx)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(std.out, status)
	}
	printStatus(std.out, status)
	return nil
}

func printStatus(w io.Writer, s admin.Status) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	defer t.Flush()
	health := "yes"
	if !s.Healthy {
		health = "no:"
		for _, name := range slices.Sorted(maps.Keys(s.Services)) {
			if !s.Services[name] {
				health += " " + name
			}
		}
	}
	fmt.Fprintf(t, "address\thttps://%s\n", s.Address)
	fmt.Fprintf(t, "healthy\t%s\n", health)
	fmt.Fprintf(t, "version\t%s, up since %s\n", s.Version, s.Started.Local().Format(time.DateTime))
	fmt.Fprintf(t, "certificate\tuntil %s, renews by itself\n", s.Certificate.Local().Format(time.DateOnly))
	fmt.Fprintf(t, "held\t%d repositories, %d tags, %d manifests, %d blobs (%s)\n",
		s.Store.Repositories, s.Store.Tags, s.Store.Manifests, s.Store.Blobs, humanize.IBytes(uint64(max(s.Store.BlobBytes, 0))))
	fmt.Fprintf(t, "users\t%d\n", s.Store.Users)
	if s.LastGC != nil {
		fmt.Fprintf(t, "last gc\t%s, freed %s\n", s.LastGC.Ended.Local().Format(time.DateTime), humanize.IBytes(uint64(max(s.LastGC.Bytes, 0))))
	}
}
