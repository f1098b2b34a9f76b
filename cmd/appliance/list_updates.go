package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
)

func newListUpdatesCommand(std stdio) *cobra.Command {
	var o mirrorOptions
	c := &cobra.Command{
		Use:   "updates [-c] FILE --workspace file://DIR",
		Short: "List the releases and operator versions that are newer than what was mirrored",
		Long: `List what the update graph and the catalogs have, in the channels that an image set names, that is newer than what the
runs of the workspace have mirrored, into a registry or into archives. What the image set as it is does not ask for, since
a maxVersion is below it, is listed too and marked. Nothing is copied.`,
		Example: "  appliance list updates -c imageset.yaml --workspace file:///data/mirror",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 || len(args) == 1 && c.Flags().Changed("config") {
				return hint.New(fmt.Errorf("%q is one image set too many", args[len(args)-1]), "-c FILE")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			if len(args) == 1 { // as version 1 has it
				o.config = args[0]
			}
			o.loadImageSet(c.Flags())
			if o.set.v1 && o.workspace == "" {
				o.workspace = "file://" + workspaceV1
			}
			return runListUpdates(c.Context(), std, o)
		},
	}
	o.addCommon(c.Flags())
	for _, flag := range []string{"config", "workspace", "output", "keep-upgrade-paths"} {
		c.Flags().Lookup(flag).Hidden = false
	}
	return c
}

func runListUpdates(ctx context.Context, std stdio, o mirrorOptions) error {
	switch {
	case o.config == "":
		return hint.New(errors.New("list updates needs an image set"), "-c FILE")
	case o.workspace == "":
		return hint.New(errors.New("list updates needs the workspace of the runs"), "--workspace file://DIR")
	}
	if err := checkOutput(o.output); err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: plain.Attr}))
	o.busy, o.log = busy.New(nil, log), log
	run, done, err := o.reads(ctx, log)
	if err != nil {
		return err
	}
	defer done()
	run.Workspace = o.workspaceDir()
	u, err := mirror.FindUpdates(ctx, run)
	if u == nil {
		return err
	}
	return errors.Join(show(std.out, o.output, u, printUpdates), err)
}

// printUpdates prints the tables of oc-mirror v1, with a mark at what the image set does not ask for.
func printUpdates(out io.Writer, u *mirror.Updates) {
	unasked := func(asked bool) string {
		if asked {
			return ""
		}
		return "\tnot asked for by the image set"
	}
	if len(u.Channels)+len(u.Catalogs) == 0 {
		fmt.Fprintln(out, "the image set has no channel and no catalog of which something can be newer")
		return
	}
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, c := range u.Channels {
		if len(c.Versions) == 0 {
			fmt.Fprintf(w, "No updates found for release channel %s (%s)\n", plain.Field(c.Channel), c.Architecture)
			continue
		}
		fmt.Fprintf(w, "Listing update for release channel:\t%s\nArchitecture:\t%s\n", plain.Field(c.Channel), c.Architecture)
		for _, v := range c.Versions {
			fmt.Fprintf(w, "%s%s\n", plain.Field(v.Version), unasked(v.Asked))
		}
		w.Flush()
	}
	for _, c := range u.Catalogs {
		if len(c.Bundles) == 0 {
			fmt.Fprintf(w, "No updates found for catalog %s\n", plain.Field(c.Catalog))
			continue
		}
		fmt.Fprintf(w, "Listing update for catalog:\t%s\nPackage\tChannel\tBundle\tReplaces\n", plain.Field(c.Catalog))
		for _, b := range c.Bundles {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s%s\n", plain.Field(b.Package), plain.Field(b.Channel), plain.Field(b.Bundle), plain.Field(b.Replaces), unasked(b.Asked))
		}
		w.Flush()
	}
	w.Flush()
}
