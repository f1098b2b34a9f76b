package main

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newCatalogsCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "catalogs",
		Short: "Have the registry on this host make its views of operator catalogs again",
		Long: `Have the registry on this host make the views that catalogs in config.yaml lists again where they would be others
now, and list them: what they have, what they leave out and why. The daemon does that by itself when something changes.

Exit codes: 0 all views are up to date, 1 one could not be made and is as it was.`,
		Example: "  appliance catalogs -o json",
		Args:    noArguments,
		RunE:    func(c *cobra.Command, _ []string) error { return runCatalogs(c.Context(), std, o) },
	}
	o.addFlags(c.Flags())
	return c
}

func runCatalogs(ctx context.Context, std stdio, o askOptions) error {
	say := nowAndThen(std.err)
	result, err := askDaemon(ctx, std, &o, func(control *client.Client) (api.CatalogsResult, error) {
		return control.Catalogs(ctx, func(p api.CatalogsProgress) { say("%d of %s", p.Done, count(p.Views, "view")) })
	}, printViews)
	if err != nil {
		return err
	}
	return failedViews(result.Views)
}

// failedViews returns an error if a view could not be made.
func failedViews(all []api.CatalogView) error {
	var failed []string
	remedy := ""
	for _, v := range all {
		if v.Error != "" {
			failed, remedy = append(failed, v.Name+": "+v.Error), v.Hint
		}
	}
	switch len(failed) {
	case 0:
		return nil
	case 1:
		return hint.New(errors.New("view "+failed[0]), remedy)
	}
	return fmt.Errorf("%d views could not be made and are as they were, such as %s", len(failed), failed[0])
}

func printViews(w io.Writer, r api.CatalogsResult) {
	if len(r.Views) == 0 {
		fmt.Fprintln(w, "config.yaml lists no views below catalogs")
	}
	for _, v := range r.Views {
		more := func(format string, args ...any) { fmt.Fprintln(w, "  "+plain.Line(fmt.Sprintf(format, args...))) }
		most := len(v.LeftOut) + len(v.Warnings)
		if v.MoreLeftOut+v.MoreWarnings > 0 {
			most = leftOutOfMany
		}
		printView(func(format string, args ...any) { fmt.Fprintln(w, plain.Line(fmt.Sprintf(format, args...))) }, more, v, most)
		shown := min(most, len(v.Warnings))
		for _, warning := range v.Warnings[:shown] {
			more("warning: %s", warning)
		}
		if left := len(v.Warnings) - shown + v.MoreWarnings; left > 0 {
			more("%s more", count(left, "warning"))
		}
	}
}

// leftOutOfMany is how many bundles and warnings of a view are shown that leaves out more than a page has.
const leftOutOfMany = 5

// printView prints a view: a first line, and more about it, with at most so many bundles.
func printView(first, more func(format string, args ...any), v api.CatalogView, most int) {
	switch {
	case v.Digest == "":
		first("%s of %s: not shown yet", v.Name, v.Original)
	default:
		first("%s of %s: %s, %s, %s", v.Name, v.Original, count(len(v.Packages), "package"), count(v.Bundles, "bundle"), v.Digest)
	}
	switch {
	case v.ToFreeze:
		more("to be frozen at %s: it follows its original until then", v.Frozen)
	case v.Frozen != "":
		more("frozen at %s", v.Frozen)
	}
	if v.OriginalGone {
		more("the original is gone from that name; a copy of %s is used", v.OriginalDigest)
	}
	if v.Changed != nil {
		more("changed %s: %s", when(*v.Changed), v.Reason)
	}
	if v.RolledBack {
		more("rolled back: it stays so until it would become another; packages and bundles are those that it would have")
	}
	shown := min(most, len(v.LeftOut))
	for _, b := range v.LeftOut[:shown] {
		more("without %s: %s", b.Name(), b.Reason)
	}
	if left := len(v.LeftOut) - shown + v.MoreLeftOut; left > 0 {
		more("without %s more", count(left, "bundle"))
	}
	if v.Error != "" {
		more("failed: %s", v.Error)
	}
}
