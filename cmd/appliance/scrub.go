package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store/integrity/findings"
)

type scrubOptions struct {
	locateOptions
	rate   int64
	output string
}

func newScrubCommand(std stdio) *cobra.Command {
	var o scrubOptions
	c := &cobra.Command{
		Use:   "scrub",
		Short: "Read every layer, take damaged ones out of service, and fetch them again where they came from",
		Long: `Read every layer and compare it with its digest. What is damaged is taken out of service, so that a pull
fails instead of giving wrong bytes, and fetched again where it came from, if that is known and answers.
The registry goes on serving. A scrub that is interrupted goes on where it stopped.

The daemon does the same by itself, see scrub in config.yaml.

Exit codes: 0 nothing is damaged any more, 1 something is, or it could not be read.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runScrub(c.Context(), std, o) },
	}
	f := c.Flags()
	o.locateOptions.addFlags(f)
	addRateFlag(f, &o.rate, "read")
	addOutputFlag(f, &o.output)
	return c
}

func runScrub(ctx context.Context, std stdio, o scrubOptions) error {
	o.existing = true
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		report, err := control.Scrub(ctx, api.ScrubRequest{BytesPerSecond: o.rate}, scrubProgress(std.err))
		if err != nil {
			return err
		}
		err = show(std.out, o.output, report, printScrub)
		if err != nil || report.Damaged == report.Repaired {
			return err
		}
		return hint.New(
			fmt.Errorf("%s damaged and out of service", count(int(report.Damaged-report.Repaired), "blob")),
			"push or mirror the images named again, or restore a backup")

	})
}

func scrubProgress(w io.Writer) func(api.ScrubState) {
	say := nowAndThen(w)
	return func(s api.ScrubState) { say("%s", howFar(s)) }
}

func printScrub(w io.Writer, r findings.ScrubReport) {
	for _, d := range r.Damage {
		state := "fetched again"
		if !d.Repaired {
			state = "not repaired: " + strings.ReplaceAll(d.RepairError, "\n", "; ") // one of each place it was asked for
		}
		fmt.Fprintf(w, "%s (%s): %s; %s\n", plain.Line(d.Digest.String()), bytesOf(d.Size),
			plain.Line(d.Cause), plain.Line(state))
		for _, image := range d.Images {
			fmt.Fprintf(w, "    needed by %s\n", plain.Line(image))
		}
	}
	resumed := ""
	if r.Resumed {
		resumed = ", going on where the last scrub stopped"
	}
	fmt.Fprintf(w, "read %d blobs (%s)%s: %d damaged, %d of them repaired\n", r.Blobs,
		bytesOf(r.Bytes), resumed, r.Damaged, r.Repaired)
}
