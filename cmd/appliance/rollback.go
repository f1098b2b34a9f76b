package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type rollbackOptions struct {
	mirrorOptions
	run  string
	list bool

	force bool
	past  api.PastRequest // of a list
}

func newRollbackCommand(std stdio) *cobra.Command {
	var o rollbackOptions
	c := &cobra.Command{
		Use:   "rollback docker://HOST:PORT",
		Short: "Give the tags that a run moved at an appliance their images of before",
		Long: `Give the tags that a run moved at an appliance, as a user of role admin, the images that they had before, all
in one transaction. Without --run it is the last run that is no change of a view of a catalog. A tag that something else has moved since stays, and is listed.
Where an image of before has been deleted since, or an image of a bundle that a catalog of before offers, nothing is changed.
Images that the run brought can still be pulled by digest. A rollback is a run too, and can be rolled back.

A path, as in the destination of a run, only chooses the login. Cluster resources in a workspace are not changed: the images that they lead to are those of before.`,
		Example: `  appliance mirror rollback --list docker://registry.example.com:8443
  appliance mirror rollback --run 5b4c7d0e-2f7c-4d9c-8a37-8c6b9f0e1a2d docker://registry.example.com:8443`,
		Args: takes(1, "the appliance, such as docker://registry.example.com:8443"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			o.force = isSet(c.Flags(), "force")
			if o.run == "" && c.Flags().Changed("run") {
				return hint.New(errors.New("--run names no run"), "leave it out for the last run, or name one that --list shows")
			}
			return runRollback(c.Context(), std, o, args[0])
		},
	}
	f := c.Flags()
	o.addCommon(f)
	f.StringVar(&o.run, "run", "", "the id of the run, as --list has it (default the last run)")
	f.BoolVar(&o.list, "list", false, "list the last runs, and change nothing")
	o.addPast(f)
	f.Lookup("dry-run").Usage = "list what would be changed, and change nothing"
	f.Lookup("force").Usage = "bring back a catalog too that offers bundles whose images are gone"
	for _, flag := range []string{"dry-run", "force", "dest-tls-verify", "dest-cert-dir", "output"} {
		f.Lookup(flag).Hidden = false
	}
	return c
}

func runRollback(ctx context.Context, std stdio, o rollbackOptions, argument string) error {
	attempt := "roll back at"
	if o.list {
		attempt = "list the runs of"
	}
	control, err := o.dialAppliance(ctx, argument, attempt)
	if err != nil {
		return err
	}
	defer control.Close()
	if o.list {
		return listPast(ctx, std, o, control)
	}
	if o.run == "" {
		past, err := control.PastSyncs(ctx, api.PastRequest{Limit: 1, WithoutViews: true})
		if err != nil {
			return err
		}
		if o.run, err = lastRun(past); err != nil {
			return err
		}
	}
	done, err := control.Rollback(ctx, o.run, api.RollbackRequest{DryRun: o.dryRun, Force: o.force})
	if err != nil {
		return err
	}
	if err := show(std.out, o.output, done, printRollback); err != nil {
		return err
	}
	if len(done.Moved) == 0 && !o.dryRun {
		return hint.New(errors.New("nothing is rolled back: no tag is as run "+o.run+" left it"),
			"appliance mirror history "+argument+" shows what came after it")
	}
	return nil
}

// dialAppliance opens the control API of an appliance, for an attempt that its error names. The path is that of a login that is for it only.
func (o *mirrorOptions) dialAppliance(ctx context.Context, argument, attempt string) (*client.Client, error) {
	if !strings.HasPrefix(argument, "docker://") {
		return nil, hint.New(fmt.Errorf("%q is not an appliance", argument), "docker://HOST:PORT")
	}
	address, prefix, err := mirror.ParseDestination(argument)
	if err != nil {
		return nil, err
	}
	keys, err := o.destination.keychain(o.authFile)
	if err != nil {
		return nil, err
	}
	files, err := upstream.TrustFiles(o.destCertDir, address)
	if err != nil {
		return nil, err
	}
	config, err := upstream.TLSConfig(files, !o.destVerify)
	if err != nil {
		return nil, err
	}
	control, err := dialControl(ctx, address, prefix, keys, config)
	if err != nil {
		return nil, hint.New(fmt.Errorf("%s %s: %w", attempt, address, err),
			"name an appliance that is up, and log in as a user of role admin: podman login "+address)
	}
	return control, nil
}

// lastRun returns the last run, unless it is a rollback: that another one is meant cannot be known.
// A run that changed a view of a catalog followed another, which is the one that is meant.
func lastRun(past []api.PastSync) (string, error) {
	switch {
	case len(past) == 0:
		return "", errors.New("no run was committed, so that there is nothing to roll back")
	case past[0].RollsBack != "":
		return "", hint.New(errors.New("the last run is a rollback itself"),
			"name a run: --list lists them, --run "+past[0].ID+" takes the rollback back")
	}
	return past[0].ID, nil
}

// pastListed is how many changes are listed unless another limit is given.
const pastListed = 100

func (o *rollbackOptions) addPast(f *pflag.FlagSet) {
	f.IntVar(&o.past.Limit, "limit", pastListed, "list the last so many changes of an appliance; 0 lists all")
	f.BoolVar(&o.past.WithoutViews, "without-views", false, "leave out the changes of views of catalogs")
}

// listPast lists the past changes of an appliance, and on stderr that there are more.
func listPast(ctx context.Context, std stdio, o rollbackOptions, control *client.Client) error {
	if o.past.Limit < 0 {
		return hint.New(fmt.Errorf("--limit %d is no number of changes", o.past.Limit), "give 1 or more; 0 lists all")
	}
	ask := o.past
	if ask.Limit > 0 {
		ask.Limit++
	}
	past, err := control.PastSyncs(ctx, ask)
	if err != nil {
		return err
	}
	more := o.past.Limit > 0 && len(past) > o.past.Limit
	if more {
		past = past[:o.past.Limit]
	}
	if err := show(std.out, o.output, past, printSyncs); err != nil {
		return err
	}
	if more {
		fmt.Fprintf(std.err, "there are more than the last %d; --limit 0 lists all, --without-views the runs only\n", o.past.Limit)
	}
	return nil
}

func printSyncs(w io.Writer, all []api.PastSync) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "RUN\tCOMMITTED\tTAGS\tNAME")
	for _, run := range all {
		fmt.Fprintln(t, plain.Line(run.ID)+"\t"+when(run.Committed)+"\t"+fmt.Sprint(run.Tags)+"\t"+plain.Line(run.Name))
	}
	_ = t.Flush() // w keeps an error, see output
}

func printRollback(w io.Writer, r api.Rollback) {
	for _, c := range r.Moved {
		became := c.Became
		if became == "" {
			became = "no tag, as before"
		}
		fmt.Fprintln(w, plain.Line(fmt.Sprintf("%s:%s: %s", c.Repository, c.Tag, became)))
	}
	for _, c := range r.Left {
		fmt.Fprintln(w, plain.Line(fmt.Sprintf("%s:%s stays: it was moved or deleted after the run",
			c.Repository, c.Tag)))
	}
	verb := "brought back"
	if r.ID == "" && len(r.Moved) > 0 {
		verb = "would bring back"
	}
	fmt.Fprintf(w, "%s %s; %d stay\n", verb, count(len(r.Moved), "tag"), len(r.Left))
	if r.ID != "" {
		fmt.Fprintf(w, "to take that back: appliance mirror rollback --run %s docker://…\n", plain.Line(r.ID))
	}
}
