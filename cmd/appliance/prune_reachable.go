package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type pruneReachableOptions struct {
	applianceOptions
	keep, gc     bool
	list, output string
	request      api.PruneRequest
}

func newPruneReachableCommand(std stdio) *cobra.Command {
	var o pruneReachableOptions
	c := &cobra.Command{
		Use:   "prune --keep-reachable [--delete-yaml-file FILE] [docker://HOST:PORT]",
		Short: "Delete releases and catalogs that no attached cluster runs, can reach or may roll back to",
		Long: `Delete in two steps, at the registry of this host or at another as a user of role admin. The first lists the releases
that no attached cluster (appliance pin cluster) runs, can reach by the update graph that is here, in its channel and for its
architecture, or may roll back to; and the operator catalogs of minor versions that none of them has or can come to; with
the images that only these need, and what deleting them frees. Nothing is deleted. Then --delete-yaml-file deletes what the
list of -o json names and is still not needed, and frees the space. When it is interrupted, the same command goes on.

Listed is what runs have mirrored. What clients have pushed, what is pulled through, additional images, charts, graph data
and views stay, and whatever it is not certain of, with the reason. Image sets that ask for a release are named: their next
run brings it again.

appliance mirror prune deletes what image sets no longer ask for.`,
		Example: `  appliance prune --keep-reachable
  appliance prune --keep-reachable -o json > plan.json
  appliance prune --keep-reachable --delete-yaml-file plan.json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !o.keep {
				return hint.New(errors.New("--keep-reachable is missing"), "for what image sets no longer ask for: appliance mirror prune -c imageset.yaml …")
			}
			return runPruneReachable(c.Context(), std, o, args)
		},
	}
	f := c.Flags()
	o.addFlags(f)
	addOutputFlag(f, &o.output)
	f.BoolVar(&o.keep, "keep-reachable", false, "keep what attached clusters run, can reach, and may roll back to")
	pathVar(f, &o.list, "delete-yaml-file", "", "the list to delete, of -o json; - is standard input")
	f.BoolVar(&o.request.DryRun, "dry-run", false, "say what of the list would be deleted, and delete nothing")
	f.BoolVar(&o.gc, "gc", true, "free the space after the deletion")
	return c
}

func runPruneReachable(ctx context.Context, std stdio, o pruneReachableOptions, args []string) error {
	if o.list != "" {
		if err := o.readList(std); err != nil {
			return err
		}
	}
	return o.ask(ctx, std, args, func(control *client.Client) error {
		result, err := control.Prune(ctx, o.request, pruneProgress(std.err))
		if err != nil {
			return err
		}
		if o.list == "" || o.request.DryRun {
			return show(std.out, o.output, result, printPrunePlan)
		}
		if err := show(std.out, o.output, result, printPruned); err != nil || !o.gc {
			return err
		}
		var now api.Duration
		freed, err := control.GC(ctx, api.GCRequest{GracePeriod: &now}, gcProgress(std.err))
		if err != nil {
			return hint.New(fmt.Errorf("the images are deleted, and their space is not freed: %w", err), "appliance gc --grace-period 0s")
		}
		out := std.out
		if o.output != "" {
			out = std.err // which has one document
		}
		printGC(out, freed)
		if rest := result.Bytes - freed.Bytes; rest > 0 {
			fmt.Fprintf(out, "%s more are freed by the next collection: clients have asked for them within the last minutes\n", bytesOf(rest))
		}
		return nil
	})
}

// readList reads the releases and catalogs that are to be deleted.
func (o *pruneReachableOptions) readList(std stdio) (err error) {
	var text []byte
	if o.list == "-" {
		text, err = io.ReadAll(io.LimitReader(std.in, maxPruneList))
	} else if text, err = regular.ReadFile(o.list); err != nil {
		err = regular.Reason(err)
	}
	var listed api.PruneResult
	if err == nil {
		err = json.Unmarshal(text, &listed)
	}
	if err == nil && listed.Delete == nil {
		err = errors.New("it has no delete")
	}
	if err != nil {
		return hint.New(fmt.Errorf("the list %s: %w", o.list, err), "make it with: appliance prune --keep-reachable -o json > plan.json")
	}
	if o.request.Delete = listed.Delete; len(listed.Delete) == 0 {
		return errors.New("the list has nothing to delete")
	}
	return nil
}

// maxPruneList bounds a list on standard input.
const maxPruneList = 256 << 20

func pruneProgress(w io.Writer) func(api.PruneProgress) {
	say := nowAndThen(w)
	return func(p api.PruneProgress) {
		if p.Deleting {
			say("deleted %d of %s", p.Done, count(p.Of, "image"))
			return
		}
		say("planning: %d of %s and catalogs", p.Done, count(p.Of, "release"))
	}
}

// printPrunePlan prints what would be deleted, and what stays.
func printPrunePlan(w io.Writer, r api.PruneResult) {
	say := func(format string, args ...any) { fmt.Fprintln(w, plain.Line(fmt.Sprintf(format, args...))) }
	printReaches(say, r)
	for _, k := range r.Kept {
		say("stays: %s: %s", k.Name, k.Reason)
	}
	for _, d := range r.Delete {
		say("to delete: %s at %s, %s, alone %s", d.Name, d.Image, count(d.Images, "image"), bytesOf(d.Bytes))
		for _, set := range d.AskedBy {
			say("warning: %s is asked for by %s, and comes again with its next run: take it out there", d.Name, set)
		}
	}
	if len(r.Delete) == 0 {
		say("there is nothing to delete")
		return
	}
	say("%s to delete, which frees %s (%d bytes); nothing was deleted; to delete them: appliance prune --keep-reachable -o json > plan.json, and then --delete-yaml-file plan.json",
		count(len(r.Images), "image"), bytesOf(r.Bytes), r.Bytes)
}

// printReaches prints what clusters can reach.
func printReaches(say func(string, ...any), r api.PruneResult) {
	for _, c := range r.Clusters {
		name := c.Name
		if name == "" {
			name = c.ID
		}
		switch {
		case c.Problem != "":
			say("warning: it is not known what cluster %s can reach: %s", name, c.Problem)
		default:
			say("cluster %s, %s (%s) in channel %s, can come to: %s (it told so on %s)", name, c.Version, strings.Join(c.Architectures, ", "), c.Channel, strings.Join(c.Reaches, " "), c.Told.Format(time.DateOnly))
		}
	}
}

// printPruned prints what was deleted.
func printPruned(w io.Writer, r api.PruneResult) {
	for _, d := range r.Delete {
		fmt.Fprintln(w, plain.Line(fmt.Sprintf("deleted: %s at %s", d.Name, d.Image)))
	}
	for _, k := range r.Left {
		fmt.Fprintln(w, plain.Line(fmt.Sprintf("stays: %s at %s: %s", k.Name, k.Image, k.Reason)))
	}
	fmt.Fprintf(w, "deleted %s\n", count(r.Deleted, "image"))
}
