package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type gcOptions struct {
	locateOptions
	dryRun bool
	wait   bool
	grace  time.Duration
	output string
}

func (o *gcOptions) addFlags(f *pflag.FlagSet) {
	o.locateOptions.addFlags(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be removed, and remove nothing")
	f.BoolVar(&o.wait, "wait", true, "wait until it has ended and print what was freed; --wait=false leaves it to the daemon, see appliance status")
	f.DurationVar(&o.grace, "grace-period", 0,
		"leave alone what was pushed or asked for within this time (default: that of config.yaml); 0s takes what was deleted at once, and leaves ten minutes to pushes under way")
	addOutputFlag(f, &o.output)
}

func newGCCommand(std stdio) *cobra.Command {
	var o gcOptions
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove layers that no image uses any more, while the registry serves",
		Long: `Remove layers that no image uses any more, uploads that nobody finished, and what a sync that never
ended has left. The registry goes on serving, reads and writes. Untagged images are kept. What was removed when
it is interrupted stays removed; the next one goes on.

The daemon does the same by itself, see gc in config.yaml.

Exit codes: 0 all of it is removed, or it was begun with --wait=false; 1 an error.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return runGC(c.Context(), std, o, c.Flags().Changed("grace-period"))
		},
	}
	o.addFlags(c.Flags())
	return c
}

func runGC(ctx context.Context, std stdio, o gcOptions, graceGiven bool) error {
	request := api.GCRequest{DryRun: o.dryRun}
	if graceGiven {
		request.GracePeriod = (*api.Duration)(&o.grace)
	}
	if !o.wait {
		return beginGC(ctx, std, o, request)
	}
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		result, err := control.GC(ctx, request, gcProgress(std.err))
		if err != nil {
			return err
		}
		return show(std.out, o.output, result, printGC)
	})
}

// beginGC leaves the collection to the daemon.
func beginGC(ctx context.Context, std stdio, o gcOptions, request api.GCRequest) error {
	if o.dryRun || o.output != "" {
		return hint.New(errors.New("--wait=false has no result to print"),
			"leave out --dry-run and --output, or --wait=false")
	}
	err := withDaemon(ctx, &o.locateOptions, func(control *client.Client) error { return control.BeginGC(ctx, request) })
	if errors.Is(err, client.ErrNotRunning) {
		return hint.New(
			fmt.Errorf("--wait=false leaves the collection to the daemon: %w", err),
			"start it (systemctl start appliance), or leave out --wait=false to collect here")

	}
	if err != nil {
		return err
	}
	fmt.Fprintln(std.out, "collection begun; appliance status says how far it is and what it freed")
	return nil
}

func gcProgress(w io.Writer) func(api.GCProgress) {
	say := nowAndThen(w)
	return func(p api.GCProgress) {
		switch {
		case !p.Planned:
			say("planning: %s, %s to free so far", count(p.Of.Blobs, "blob"), bytesOf(p.Of.Bytes))
		case !p.DryRun:
			say("freed %s of %s, %d of %s", bytesOf(p.Done.Bytes), bytesOf(p.Of.Bytes),
				p.Done.Blobs, count(p.Of.Blobs, "blob"))
		}
	}
}

func printGC(w io.Writer, r api.GCResult) {
	verb := "freed"
	if r.DryRun {
		verb = "would free"
	}
	fmt.Fprintf(w, "%s %s (%d bytes): %s\n", verb, bytesOf(r.Bytes), r.Bytes, garbage(r.Result))
	if r.DryRun && r.Blobs > 0 {
		fmt.Fprintln(w, "nothing was removed; --output json lists the blobs")
	}
}
