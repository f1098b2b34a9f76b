package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/plan"
)

func newPruneCommand(std stdio) *cobra.Command {
	var o deleteOptions
	var forget string
	c := &cobra.Command{
		Use:   "prune {-c FILE --workspace file://DIR | --delete-yaml-file FILE | --forget-workspace DIR} docker://HOST:PORT[/PATH]",
		Short: "Delete what was mirrored and is no longer asked for: list it, then delete the list",
		Long: `Delete images in two steps, as delete does. With -c it lists what the runs of the workspace have mirrored and
neither this image set nor the last run of another one asks for any more, and how much of it is at the registry;
nothing is deleted. Then --delete-yaml-file deletes the images of the list, with their signatures.

Nothing is listed while an image of the image set cannot be planned or is not at the destination yet: what is there
would go before what replaces it comes. At an appliance, what other workspaces, its sync jobs, catalogs and views
need is left out and named, unless with --force in both steps. At another registry that is not known: compare the
list with their image sets.

What a workspace needs is known there from its last runs. --forget-workspace drops that of one that is gone, named by
its directory as the lines "stays: …" have it, or as HOST:DIR, and deletes no image: the next prune of another workspace
may. A workspace that is not gone is known again with its next run.`,
		Example: `  appliance mirror prune -c imageset.yaml --workspace file:///data/mirror docker://registry.example.com:8443
  appliance mirror prune --delete-yaml-file /data/mirror/working-dir/delete/delete-images-prune.yaml docker://registry.example.com:8443 --gc`,
		Args: takes(1, "one registry, such as docker://registry.example.com:8443"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			o.loadImageSet(c.Flags())
			o.force = isSet(c.Flags(), "force")
			switch {
			case forget != "" && (o.list != "" || o.config != ""):
				return hint.New(errors.New("--forget-workspace deletes nothing, and lists nothing to delete"), "leave -c and --delete-yaml-file out, and prune afterwards")
			case forget != "":
				return runForget(c.Context(), std, o.mirrorOptions, forget, args[0])
			case o.list != "":
				return runDelete(c.Context(), std, o, args)
			}
			return runPrune(c.Context(), std, o, args[0])
		},
	}
	f := c.Flags()
	o.addCommon(f)
	f.StringVar(&o.id, "delete-id", "prune", "a part of the name of the list")
	pathVar(f, &o.list, "delete-yaml-file", "", "the list to delete")
	f.BoolVar(&o.gc, "gc", false, "then free the space, at an appliance")
	f.StringVar(&forget, "forget-workspace", "", "drop what the image sets of a workspace that is gone need of an appliance: DIR or HOST:DIR")
	f.Lookup("force").Usage = "list and delete also what other image sets, and others at an appliance, need"
	for _, flag := range []string{"config", "workspace", "from", "dest-tls-verify", "dest-cert-dir", "dry-run", "force", "output", "max-nested-paths", "keep-upgrade-paths", "follow-dependencies"} {
		f.Lookup(flag).Hidden = false
	}
	return c
}

// runForget drops what the image sets of a workspace need of an appliance.
func runForget(ctx context.Context, std stdio, o mirrorOptions, workspace, argument string) error {
	control, err := o.dialAppliance(ctx, argument, "forget a workspace at")
	if err != nil {
		return err
	}
	defer control.Close()
	forgotten, err := mirror.Forget(ctx, control, workspace, o.dryRun)
	if err != nil {
		return err
	}
	return show(std.out, o.output, forgotten, func(w io.Writer, all []mirror.Wants) {
		verb := "forgotten"
		if o.dryRun {
			verb = "would be forgotten"
		}
		for _, of := range all {
			fmt.Fprintln(w, plain.Line(fmt.Sprintf("%s: %s (its run of %s), which needs %s", verb, of.Name, of.At.UTC().Format(time.DateOnly), count(len(of.Images), "image"))))
		}
	})
}

func runPrune(ctx context.Context, std stdio, o deleteOptions, argument string) error {
	d, err := against(ctx, std, o.mirrorOptions, argument,
		func(ctx context.Context, run mirror.Options, at *pruner) (*mirror.Deletion, error) {
			return mirror.PlanPrune(ctx, run, at, mirror.DeleteList{ID: o.id, Force: o.force})
		})
	if err == nil && len(d.Items) == 0 && o.output != "json" {
		for _, text := range d.Warnings {
			fmt.Fprintln(std.out, plain.Line("warning: "+text))
		}
		fmt.Fprintln(std.out, "everything that the workspace has mirrored is asked for or needed: there is nothing to delete")
		return nil
	}
	if err != nil {
		return err
	}
	return o.planned(std, d)
}

// checkPrune checks --prune of a mirror.
func (o *mirrorOptions) checkPrune(destination string) error {
	switch {
	case o.prune && strings.HasPrefix(destination, "file://"):
		return hint.New(errors.New("--prune is for a registry"), "give it where the archive is mirrored from")
	case o.prune && o.partial:
		return hint.New(errors.New("--prune and --partial cannot be used together: what comes on another medium would be deleted before it comes"), "give --prune with the last medium")
	}
	return nil
}

// pruned prints what a run has deleted, or what it would delete.
func (p *progress) pruned(r *mirror.Report, would []plan.Pruned, registry string) {
	for _, i := range would {
		at := ":" + i.Tag
		if i.Tag == "" {
			at = "@" + i.Digest.String()
		}
		p.name("would be deleted after the run: %s/%s%s", registry, i.Repository, at)
	}
	if r == nil || r.Pruned == nil {
		return
	}
	for _, i := range r.Pruned.Deleted {
		p.name("deleted, since it is no longer asked for: %s", i.ImageReference)
	}
	for _, k := range r.Pruned.Needed {
		p.name("%s stays: %s needs it", k.ImageReference, k.For)
	}
	for _, k := range r.Pruned.Kept {
		p.name("deleted the tag of %s, and kept the content, which is that of %s", k.ImageReference, k.For)
	}
	for _, f := range r.Pruned.Failed {
		p.name("could not be deleted: %s: %s", f.ImageReference, f.Error)
	}
}
