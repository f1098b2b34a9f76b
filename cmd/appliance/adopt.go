package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"

	"github.com/opencontainers/go-digest"
	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type adoptOptions struct {
	askOptions
	dryRun           bool
	move, link, copy bool
}

func newAdoptCommand(std stdio) *cobra.Command {
	var o adoptOptions
	c := &cobra.Command{
		Use:   "adopt DIRECTORY",
		Short: "Take over the images of another registry on this host",
		Long: `Take over the images of another registry on this host, by its directory: that of a distribution registry
(registry:2, registry:3), with docker/registry/v2, or the directory of a mirror-registry 2.x or 3, with its users and
robots. Every repository, manifest and tag becomes visible at once at the end; every layer is
verified, and what does not verify is listed and left out. The same command again completes what was interrupted,
and leaves a tag alone that the appliance has. Stop the other registry before, so that nothing is pushed meanwhile.

Layers are cloned where the file system can, else linked within a file system, which takes no space, else copied. A
linked file becomes the service's, and the other registry can go on reading it. With --move the files of layers are
removed from the directory at the end.`,
		Example: "  sudo appliance adopt /var/lib/registry --dry-run\n  sudo appliance adopt /var/lib/registry --move",
		Args:    onePath("the directory of the registry"),
		RunE:    func(c *cobra.Command, args []string) error { return runAdopt(c.Context(), std, o, args[0]) },
	}
	f := c.Flags()
	o.addFlags(f)
	f.BoolVar(&o.dryRun, "dry-run", false, "list what would be taken over, without reading layers, and do nothing")
	f.BoolVar(&o.link, "link", false, "clone, link or copy (the default)")
	f.BoolVar(&o.move, "move", false, "the same, and remove the files of layers from the directory at the end")
	f.BoolVar(&o.copy, "copy", false, "clone or copy, but do not link")
	c.MarkFlagsMutuallyExclusive("link", "move", "copy")
	return c
}

func (o *adoptOptions) way() adopt.Way {
	switch {
	case o.move:
		return adopt.Move
	case o.copy:
		return adopt.Copy
	}
	return adopt.Link
}

func runAdopt(ctx context.Context, std stdio, o adoptOptions, dir string) error {
	dir, err := expandPath(dir)
	if err != nil {
		return err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return err
	}
	id, err := o.load()
	if err != nil {
		return err
	}
	if err := notInto(id.Config.Storage); err != nil {
		return err
	}
	var source interface {
		adopt.Source
		io.Closer
	}
	if adopt.IsQuay(dir) {
		source, err = openQuay(ctx, dir)
	} else {
		source, err = adopt.OpenDistribution(dir)
	}
	if err != nil && hint.Of(err) == "" {
		err = ownersOnly(err)
	}
	if err != nil {
		return err
	}
	defer source.Close()
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		return importFrom(ctx, std, o, id, control, source, dir)
	})
}

// notInto refuses an appliance with blobs in S3, where a file of another registry can be neither linked nor
// compared.
func notInto(storage string) error {
	if !s3url.Is(storage) {
		return nil
	}
	return hint.New(errors.New("images of another registry are not taken over into S3: "+storage),
		"take them over into an appliance with a directory in storage:, then move its store: appliance store copy --help")
}

// openQuay opens a mirror-registry by its install directory, and by its units where they are there:
// they tell where its blobs and its database are.
func openQuay(ctx context.Context, dir string) (*adopt.Quay, error) {
	for _, units := range append(installer.UnitDirs(installerDeps()), adopt.UnitDirsAbove(dir)...) {
		q, err := adopt.FindQuay(ctx, units, installer.RetiredSuffix)
		if q.Root == dir {
			if err != nil {
				return nil, err
			}
			return q.Open(ctx)
		}
	}
	q, err := adopt.OpenQuay(dir)
	if err != nil {
		return nil, err
	}
	return q.Open(ctx)
}

// importFrom imports a source, and prints what came of it.
func importFrom(ctx context.Context, std stdio, o adoptOptions, id *installer.Identity, control *client.Client,
	source adopt.Source, dir string) error {
	existing, err := tagsOf(ctx, control)
	if err != nil {
		return err
	}
	say := nowAndThen(std.err)
	options := adopt.Options{Way: o.way(), Storage: id.Config.Storage, UID: id.UID, GID: id.GID,
		Existing: existing,
		Progress: func(r adopt.Report) {
			say("%s, %s, %s", count(r.Manifests, "manifest"), count(r.Blobs, "blob"), bytesOf(r.BlobBytes))
		},
	}
	if !o.dryRun {
		run, err := control.BeginSync(ctx, "adopt "+dir)
		if err != nil {
			return err
		}
		options.Run = run
	}
	report, err := adopt.Import(ctx, source, options)
	if err != nil {
		return hint.New(err, "the other registry is as it was; what came is kept for a day: repeat the command to go on")
	}
	if quay, ok := source.(*adopt.Quay); ok {
		var accounts adopt.Accounts = control
		if o.dryRun {
			accounts = nil
		}
		if err := quay.ImportUsers(ctx, accounts, &report); err != nil {
			return err
		}
	}
	if err := show(std.out, o.output, report, func(w io.Writer, r adopt.Report) { printAdopt(w, r, o.dryRun) }); err != nil {
		return err
	}
	if len(report.Problems) > 0 {
		return hint.New(fmt.Errorf("%s of %s not taken over", count(len(report.Problems), "item"), plain.Line(dir)),
			"push or mirror what is missing again; the rest is complete")
	}
	return nil
}

// tagsOf returns what tags name in the appliance, "" for one that it does not have.
func tagsOf(ctx context.Context, control *client.Client) (func(repository, tag string) digest.Digest, error) {
	tags := map[api.Tag]digest.Digest{}
	err := control.Inventory(ctx, func(part api.Inventory) {
		for _, t := range part.Tags {
			tags[api.Tag{Repository: t.Repository, Tag: t.Tag}] = t.Digest
		}
	})
	return func(repository, tag string) digest.Digest { return tags[api.Tag{Repository: repository, Tag: tag}] }, err
}

func printAdopt(w io.Writer, r adopt.Report, dry bool) {
	for _, p := range r.Problems {
		fmt.Fprintf(w, "left out: %s\n", plain.Line(p.String()))
	}
	verb := "took over"
	if dry {
		verb = "would take over"
	}
	repositories := "1 repository"
	if r.Repositories != 1 {
		repositories = fmt.Sprintf("%d repositories", r.Repositories)
	}
	fmt.Fprintf(w, "%s %s with %s and %s: %s (%s)", verb, repositories, count(r.Manifests, "manifest"),
		count(r.Tags, "tag"), count(r.Blobs, "blob"), bytesOf(r.BlobBytes))
	if !dry {
		fmt.Fprintf(w, ", of which %d were there, %d cloned, %d linked, %d copied", r.Kept, r.Cloned, r.Linked, r.Copied)
	}
	fmt.Fprintln(w)
	if len(r.Users) > 0 {
		fmt.Fprintf(w, "users, with their passwords and tokens: %s\n", plain.Line(strings.Join(r.Users, ", ")))
	}
	if r.Removed > 0 {
		fmt.Fprintf(w, "removed %s from the directory\n", count(r.Removed, "file"))
	}
}
