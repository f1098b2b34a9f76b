package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newSyncCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "sync FILE",
		Short: "Have the registry on this host mirror an image set of its configuration now",
		Long: `Have the registry on this host mirror an image set that sync in config.yaml names, without waiting for its
interval. The daemon mirrors; Ctrl-C stops the run, and the next one goes on where it stopped.

Exit codes: 0 everything is mirrored, 1 something is not.`,
		Example: "  appliance sync /var/lib/appliance/sync/base.yaml",
		Args:    takes(1, "the file of an image set, such as /var/lib/appliance/sync/base.yaml"),
		RunE:    func(c *cobra.Command, args []string) error { return runSync(c.Context(), std, o, args[0]) },
	}
	o.addFlags(c.Flags())
	return c
}

func runSync(ctx context.Context, std stdio, o askOptions, file string) error {
	file, err := filepath.Abs(file)
	if err != nil {
		return err
	}
	_, err = askDaemon(ctx, std, &o, func(control *client.Client) (api.MirrorResult, error) {
		began := time.Now()
		result, err := control.Mirror(ctx, api.MirrorRequest{ImageSet: file}, mirrorProgress(std.err))
		if err != nil {
			err = errors.Join(err, showFailed(ctx, std, o, control, file, began))
		}
		return result, err
	}, printMirrored)
	return err
}

// showFailed prints what a run has done that failed after it had begun.
func showFailed(ctx context.Context, std stdio, o askOptions, control *client.Client, file string, began time.Time) error {
	status, err := control.Status(ctx)
	if err != nil {
		return nil // the run's own error says more
	}
	for _, s := range status.Sync {
		if s.ImageSet == file && s.Last != nil && s.Last.Error != "" && s.Last.Planned > 0 && s.Last.Ended.After(began) {
			return show(std.out, o.output, *s.Last, printMirrored)
		}
	}
	return nil
}

func mirrorProgress(w io.Writer) func(api.MirrorProgress) {
	say := nowAndThen(w)
	return func(p api.MirrorProgress) { say("%s", mirroring(p)) }
}

// mirroring describes the progress of a run.
func mirroring(p api.MirrorProgress) string {
	if p.Waiting {
		return "waiting for the run of another image set"
	}
	if !p.Planned {
		return fmt.Sprintf("planning: %s so far", count(p.Resolved, "image"))
	}
	return fmt.Sprintf("%d of %s, %d failed, fetched %s of %s", p.Copied+p.Existed, count(p.Images, "image"), p.Failed,
		bytesOf(p.Fetched), bytesOf(p.Bytes))
}

func printMirrored(out io.Writer, r api.MirrorResult) {
	fmt.Fprintf(out, "mirrored %d of %s, fetched %s\n", r.Mirrored, count(r.Planned, "image"), bytesOf(r.Fetched))
	for _, f := range r.Failures {
		fmt.Fprintln(out, plain.Line(fmt.Sprintf("failed: %s: %s", f.Image, f.Error)))
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(out, plain.Line("warning: "+w))
	}
	for _, file := range append([]string{r.Report}, r.Resources...) {
		if file != "" {
			fmt.Fprintln(out, "  "+plain.Line(file))
		}
	}
}
