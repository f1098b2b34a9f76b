package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/registry/admin"
)

type gcOptions struct {
	locateOptions
	dryRun bool
	grace  time.Duration
	output string
}

func (o *gcOptions) addFlags(f *pflag.FlagSet) {
	o.locateOptions.addFlags(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be removed, and remove nothing")
	f.DurationVar(&o.grace, "grace-period", 0, "leave alone what was pushed or asked for within this time (default: that of config.yaml)")
	addOutputFlag(f, &o.output)
}

func newGCCommand(std stdio) *cobra.Command {
	var o gcOptions
	c := &cobra.Command{
		Use:   "gc",
		Short: "Remove layers that no image uses any more, while the registry serves",
		Long: `Remove layers that no image uses any more, uploads that nobody finished, and what a sync that never
ended has left. The registry goes on serving, reads and writes. Untagged images are kept.

The daemon does the same by itself, see gc in config.yaml.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return runGC(c.Context(), std, o, c.Flags().Changed("grace-period"))
		},
	}
	o.addFlags(c.Flags())
	return c
}

func runGC(ctx context.Context, std stdio, o gcOptions, graceGiven bool) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	request := admin.GCRequest{DryRun: o.dryRun}
	if graceGiven {
		request.GracePeriod = (*admin.Duration)(&o.grace)
	}
	return withControl(ctx, std, &o.locateOptions, func(client *admin.Client) error {
		result, err := client.GC(ctx, request)
		if err != nil {
			return err
		}
		if o.output == "json" {
			return printJSON(std.out, result)
		}
		printGC(std.out, result)
		return nil
	})
}

func printGC(w io.Writer, r admin.GCResult) {
	verb := "freed"
	if r.DryRun {
		verb = "would free"
	}
	fmt.Fprintf(w, "%s %s (%d bytes): %s, %s, %s\n", verb, humanize.IBytes(uint64(max(r.Bytes, 0))), r.Bytes,
		count(r.Blobs, "blob"), count(r.Uploads, "unfinished upload"), count(r.Runs, "abandoned sync"))
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// addOutputFlag is -o as oc and kubectl have it.
func addOutputFlag(f *pflag.FlagSet, output *string) {
	f.StringVarP(output, "output", "o", "", "json for scripts")
}

func checkOutput(output string) error {
	if output != "" && output != "json" {
		return &hintedError{err: fmt.Errorf("--output %q is not known", output), hint: "leave it out, or use --output json"}
	}
	return nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
