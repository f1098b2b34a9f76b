package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newPinCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "pin IMAGE...",
		Short: "Fetch all of images that are pulled through, and keep them",
		Long: `Have the registry on this host fetch what it lacks of images that it pulls through, and keep them whatever pullQuota says:
all platforms, or those of platforms at the upstream in config.yaml, with signatures and other attachments. An image is named
as it is pulled from this registry, or as it is called at an upstream. What is pinned is its digest of now: a tag may move on.
What was pushed or mirrored is never evicted, and needs no pin. Of a release, which has its images by digest, mirror is
the command.

An image that cannot be fetched whole is not pinned; the same command goes on with it.

Exit codes: 0 all are pinned, 1 one is not.`,
		Example: "  appliance pin quay.io/org/image:v1 registry.redhat.io/ubi9/ubi@sha256:…",
		Args:    takesSome("images such as quay.io/org/image:v1"),
		RunE:    func(c *cobra.Command, args []string) error { return runPin(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	c.AddCommand(newPinListCommand(std), newPinRemoveCommand(std), newPinClusterCommand(std))
	return c
}

func newPinListCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use: "list", Short: "List the images that are pinned", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			o.existing = true
			return withControl(c.Context(), std, &o.locateOptions, func(control *client.Client) error {
				all, err := control.Pins(c.Context())
				if err != nil {
					return err
				}
				return show(std.out, o.output, all, printPins)
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}

func newPinRemoveCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use: "remove IMAGE...", Short: "Let images go when pullQuota asks for it; they stay until then",
		Args: takesSome("images such as quay.io/org/image:v1"),
		RunE: func(c *cobra.Command, args []string) error {
			o.existing = true
			return withControl(c.Context(), std, &o.locateOptions, func(control *client.Client) error {
				result, err := control.Unpin(c.Context(), api.PinRequest{Images: args})
				if err != nil {
					return err
				}
				return printOutcomes(std, o.output, result, "unpinned", func(api.PinOutcome) string { return "" })
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}

func runPin(ctx context.Context, std stdio, o askOptions, images []string) error {
	say := nowAndThen(std.err)
	var result api.PinResult
	err := withDaemon(ctx, &o.locateOptions, func(control *client.Client) (err error) {
		result, err = control.Pin(ctx, api.PinRequest{Images: images}, func(p api.PinProgress) {
			say("%s: %s of %s, %d of %s; %d of %s done", plain.Line(p.Image), bytesOf(p.Bytes), bytesOf(p.OfBytes), p.Blobs, count(p.OfBlobs, "blob"), p.Done, count(p.Images, "image"))
		})
		return err
	})
	if err != nil {
		return err
	}
	return printOutcomes(std, o.output, result, "pinned", func(o api.PinOutcome) string {
		if o.Kept {
			return ": it was pushed or mirrored, and is kept without a pin"
		}
		return fmt.Sprintf(": %s, %s", parts(*o.PinnedImage), bytesOf(o.Bytes))
	})
}

// printOutcomes prints what became of images, and returns an error if one failed.
func printOutcomes(std stdio, output string, result api.PinResult, verb string, more func(api.PinOutcome) string) error {
	failed := 0
	err := show(std.out, output, result, func(w io.Writer, r api.PinResult) {
		for _, o := range r.Images {
			if o.Error != "" {
				fmt.Fprintln(w, plain.Line(o.Image+": "+o.Error))
				if o.Hint != "" {
					fmt.Fprintln(w, "hint:", plain.Line(o.Hint))
				}
				continue
			}
			word := verb
			if o.Kept && verb == "pinned" {
				word = "kept"
			}
			fmt.Fprintln(w, word, plain.Line(o.Repository+"@"+o.Digest.String())+more(o))
			if o.Warning != "" {
				fmt.Fprintln(w, "warning:", plain.Line(o.Warning))
			}
		}
	})
	for _, o := range result.Images {
		if o.Error != "" {
			failed++
		}
	}
	if err == nil && failed > 0 {
		err = fmt.Errorf("%d of %s not %s", failed, count(len(result.Images), "image"), verb)
	}
	return err
}

func parts(p api.PinnedImage) string {
	if p.Held == p.Parts {
		return "whole"
	}
	return fmt.Sprintf("%d of %d parts", p.Held, p.Parts)
}

func printPins(w io.Writer, all []api.PinnedImage) {
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing is pinned: appliance pin quay.io/org/image:v1")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "IMAGE\tTAGS\tHELD\tSIZE")
	for _, p := range all {
		fmt.Fprintln(t, plain.Line(p.Repository+"@"+p.Digest.String())+"\t"+plain.Line(strings.Join(p.Tags, ","))+"\t"+parts(p)+"\t"+bytesOf(p.Bytes))
	}
	_ = t.Flush() // w keeps an error, see output
}
