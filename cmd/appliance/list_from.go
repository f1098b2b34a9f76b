package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/archive"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/ocilayout"
	"github.com/mirror-appliance/appliance/mirror/plan"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// listedFrom is where operators are listed from: their sources, or, with --from, an archive or a
// registry that has been mirrored into.
type listedFrom struct {
	open func(imageset.Reference) (mirror.Source, error)
	// find returns the reference that a catalog is opened by, by its name in --catalog.
	find     func(ctx context.Context, name string) (imageset.Reference, error)
	catalogs func(ctx context.Context) ([]mirror.HeldCatalog, error) // nil: that is not known
	close    func() error
}

// opens opens what operators are listed from.
func (o *listOperatorsOptions) opens(ctx context.Context, std stdio) (*listedFrom, error) {
	if len(o.from) > 0 && !strings.HasPrefix(o.from[0], "docker://") {
		return o.opensArchive(ctx)
	}
	if len(o.from) > 0 { // it is a source here, and the destination everywhere else
		o.srcCertDir = cmp.Or(o.srcCertDir, o.destCertDir)
		o.srcVerify = o.srcVerify && o.destVerify
	}
	from, err := o.listedSources(ctx, std)
	if err != nil {
		return nil, err
	}
	l := &listedFrom{
		open: from.open,
		find: func(_ context.Context, name string) (imageset.Reference, error) { return imageset.ParseReference(name) },
		close: func() error {
			from.close()
			return nil
		},
	}
	if len(o.from) > 0 {
		err = o.instead(l, o.from[0])
	}
	return l, err
}

// instead makes all that is read be read at a registry that was mirrored into, below its path.
func (o *listOperatorsOptions) instead(l *listedFrom, at string) error {
	registry, prefix, err := mirror.ParseDestination(at)
	if err != nil {
		return err
	}
	open := l.open
	l.open = func(ref imageset.Reference) (mirror.Source, error) {
		if !ref.IsLayout() && ref.Domain != registry {
			ref.Domain, ref.Path = registry, path.Join(prefix, ref.Path)
		}
		return open(ref)
	}
	l.catalogs = func(ctx context.Context) ([]mirror.HeldCatalog, error) { return o.heldCatalogs(ctx, registry, prefix) }
	l.find = func(ctx context.Context, name string) (imageset.Reference, error) {
		here := path.Join(registry, prefix, name)
		if all, err := l.catalogs(ctx); err == nil && slices.ContainsFunc(all, func(c mirror.HeldCatalog) bool { return c.Image == here }) {
			name = here // a view, which has a name of this registry alone
		}
		return imageset.ParseReference(name)
	}
	return nil
}

// heldCatalogs asks an appliance which catalogs it has.
func (o *listOperatorsOptions) heldCatalogs(ctx context.Context, registry, prefix string) ([]mirror.HeldCatalog, error) {
	keys, err := o.source.keychain(o.authFile)
	if err != nil {
		return nil, err
	}
	login, err := loginFor(keys, registry, prefix)
	if err != nil {
		return nil, err
	}
	files, err := upstream.TrustFiles(o.srcCertDir, registry)
	if err != nil {
		return nil, err
	}
	trust, err := upstream.TLSConfig(files, !o.srcVerify)
	if err != nil {
		return nil, err
	}
	control := client.NewHTTPS(registry, login.Username, login.Password, trust)
	defer control.Close()
	recorded, err := control.Origins(ctx)
	if err != nil {
		return nil, hint.New(fmt.Errorf("ask %s which catalogs it has: %w", registry, err),
			"an appliance lists them for a user of role admin; of another registry name a catalog, --catalog "+registry+"/PATH:TAG")
	}
	all, err := mirror.HeldCatalogs(origins(recorded))
	for n := range all {
		all[n].Image = registry + "/" + all[n].Image
	}
	return all, err
}

// opensArchive opens the archives that operators are listed from.
func (o *listOperatorsOptions) opensArchive(ctx context.Context) (*listedFrom, error) {
	var dirs []string
	for _, from := range o.from {
		dirs = append(dirs, filepath.Clean(strings.TrimPrefix(from, "file://")))
	}
	a, err := archive.OpenPartial(ctx, dirs...)
	if err != nil {
		return nil, err
	}
	l := &listedFrom{
		open: func(ref imageset.Reference) (mirror.Source, error) {
			if ref.IsLayout() {
				return ocilayout.Open(ref.Path)
			}
			return a.Repository(ref.Name(), ref.Path), nil
		},
		close: a.Close,
	}
	l.catalogs = func(ctx context.Context) ([]mirror.HeldCatalog, error) { return archiveCatalogs(ctx, a) }
	l.find = func(ctx context.Context, name string) (imageset.Reference, error) {
		all, err := l.catalogs(ctx)
		if err != nil {
			return imageset.Reference{}, err
		}
		return findCatalog(all, name)
	}
	return l, nil
}

// findCatalog finds a catalog of an archive, as the image set names it or by its name in the archive. An
// archive of another program does not have the former: filtered catalogs are in the repository of that
// name, beside the whole one that its tag names.
func findCatalog(all []mirror.HeldCatalog, name string) (imageset.Reference, error) {
	asked, _ := imageset.ParseReference(name) // one that is none has no path
	found := slices.DeleteFunc(slices.Clone(all), func(c mirror.HeldCatalog) bool {
		return c.Catalog != name && c.Image != name && (c.Catalog != "" || !strings.HasPrefix(c.Image, asked.Path+":"))
	})
	if len(found) > 1 && asked.Domain != "" {
		found = slices.DeleteFunc(found, func(c mirror.HeldCatalog) bool { return c.Image == asked.Path+":"+asked.Tag })
	}
	var names []string
	for _, c := range found {
		names = append(names, c.Image)
	}
	switch {
	case len(found) == 0:
		return imageset.Reference{}, hint.New(fmt.Errorf("the archive has no catalog %s", name), "leave --catalog out to list its catalogs")
	case len(found) > 1:
		return imageset.Reference{}, hint.New(fmt.Errorf("the archive has %d catalogs %s: %s", len(found), name, strings.Join(names, ", ")), "--catalog "+names[0])
	}
	repository, _, _ := strings.Cut(found[0].Image, ":")
	return imageset.Reference{Transport: "docker", Path: repository, Digest: found[0].Digest}, nil
}

// archiveCatalogs returns the catalogs of an archive. One of another program does not list them.
func archiveCatalogs(ctx context.Context, a *archive.Archive) ([]mirror.HeldCatalog, error) {
	all := []mirror.HeldCatalog{}
	for _, i := range a.Images() {
		is := i.Type == string(plan.OperatorCatalog)
		if i.Type == "" {
			_, err := catalog.Find(ctx, a.Repository(i.Repository, i.Repository), i.Digest.String())
			is = err == nil
		}
		if is {
			all = append(all, mirror.HeldCatalog{Catalog: i.Origin, Image: i.Repository + ":" + i.Tag, Digest: i.Digest})
		}
	}
	return all, ctx.Err()
}

// check checks --from of a list.
func (o *listOperatorsOptions) checkFrom() error {
	for _, from := range o.from {
		registry := strings.HasPrefix(from, "docker://")
		if !registry && (!strings.HasPrefix(from, "file://") || from == "file://") || registry && len(o.from) > 1 {
			return hint.New(fmt.Errorf("--from %s is neither an archive nor one registry", strings.Join(o.from, " --from ")),
				"--from file:///media/usb, repeated for several directories, or --from docker://HOST:PORT")
		}
	}
	if len(o.from) > 0 && o.version != "" {
		return errors.New("--version is about the vendor's catalogs: leave it out with --from")
	}
	return nil
}

// listHeld lists the catalogs of an archive or of an appliance.
func listHeld(ctx context.Context, std stdio, o listOperatorsOptions, from *listedFrom) error {
	all, err := from.catalogs(ctx)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(std.out, all)
	}
	w := tabwriter.NewWriter(std.out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(w, "CATALOG\tIMAGE\tDIGEST")
	for _, c := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", plain.Field(c.Catalog), plain.Field(c.Image), c.Digest)
	}
	return w.Flush()
}
