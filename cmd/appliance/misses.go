package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type missesOptions struct {
	applianceOptions
	output     string
	asImageSet bool
	clear      bool
}

func newMissesCommand(std stdio) *cobra.Command {
	var o missesOptions
	c := &cobra.Command{
		Use:   "misses [docker://HOST:PORT]",
		Short: "List the images that clients asked for and did not get",
		Long: `List the images that clients asked for, did not get, and would not get now, from the registry of this host, or from
another as a user of role admin: the latest first, at most 2000. With --as-imageset, print an ImageSetConfiguration that mirrors
them. Signatures and other attachments that do not exist are not listed.`,
		Example: "  appliance misses --as-imageset > misses.yaml",
		Args:    cobra.MaximumNArgs(1),
		RunE:    func(c *cobra.Command, args []string) error { return runMisses(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	addOutputFlag(c.Flags(), &o.output)
	c.Flags().BoolVar(&o.asImageSet, "as-imageset", false, "print an image set configuration that mirrors them")
	c.Flags().BoolVar(&o.clear, "clear", false, "forget them")
	return c
}

func runMisses(ctx context.Context, std stdio, o missesOptions, args []string) error {
	switch {
	case o.asImageSet && o.clear:
		return hint.New(errors.New("--as-imageset and --clear exclude each other"), "print first, then clear")
	case o.asImageSet:
		if err := checkYAML(o.output); err != nil {
			return err
		}
	}
	return o.ask(ctx, std, args, func(control *client.Client) error {
		if o.clear {
			return control.ClearMisses(ctx)
		}
		if o.asImageSet {
			set, err := control.MissedImageSet(ctx)
			if err == nil {
				_, err = io.WriteString(std.out, set.Text)
			}
			return err
		}
		all, err := control.Misses(ctx)
		if err != nil {
			return err
		}
		return show(std.out, o.output, all, printMisses)
	})
}

func printMisses(w io.Writer, all []api.Miss) {
	if len(all) == 0 {
		fmt.Fprintln(w, "clients got what they asked for")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tTIMES\tFIRST\tLAST\tUSER\tFROM")
	for _, m := range all {
		user := m.User
		if user == "" {
			user = "-"
		}
		fmt.Fprintln(t, plain.Line(m.Repository)+" "+plain.Line(m.Reference)+"\t"+fmt.Sprint(m.Count)+"\t"+when(m.First)+"\t"+when(m.Last)+
			"\t"+plain.Line(user)+"\t"+plain.Line(m.Address))
	}
	_ = t.Flush() // w keeps an error, see output
}
