package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/Masterminds/semver/v3"
	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/operator"
)

// vendorRegistry has the vendor's catalogs.
const vendorRegistry = "registry.redhat.io/redhat/"

// listOperatorsOptions are the flags of list operators.
type listOperatorsOptions struct {
	mirrorOptions
	catalogs, sizes                bool
	version, catalog, pkg, channel string
	registry                       string
}

func newListOperatorsCommand(std stdio, registry string) *cobra.Command {
	o := listOperatorsOptions{registry: registry}
	c := &cobra.Command{
		Use:   "operators",
		Short: "List operators: the vendor's catalogs, the packages of one, the channels of a package, or its versions",
		Example: `  appliance list operators --catalogs --version 4.20
  appliance list operators --catalog registry.redhat.io/redhat/redhat-operator-index:v4.20
  appliance list operators --catalog localhost:8443/redhat/redhat-operator-index:v4.20 --package elasticsearch-operator
  appliance list operators --catalog registry.redhat.io/redhat/redhat-operator-index:v4.20 --package quay-operator --sizes
  appliance list operators --catalog dir:///srv/index --package etcd --channel stable -o json
  appliance list operators --from file:///media/usb
  appliance list operators --from docker://registry.example.com:8443`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			return runListOperators(c.Context(), std, o)
		},
	}
	o.addCommon(c.Flags())
	f := c.Flags()
	from := f.Lookup("from")
	from.Hidden, from.Usage = false, "list what an archive has, file://DIR, or a registry that was mirrored into, docker://HOST:PORT[/PATH]: its catalogs, or --catalog of it"
	f.BoolVar(&o.sizes, "sizes", false, "the size of each version of --package, with all its images and platforms, from their manifests")
	f.BoolVar(&o.catalogs, "catalogs", false, "the vendor's catalogs for --version")
	f.StringVar(&o.version, "version", "", "the minor version of OpenShift, such as 4.20")
	f.StringVar(&o.catalog, "catalog", "", "the packages of this catalog: an image, oci://DIR of a layout, or dir://DIR of its files")
	f.StringVar(&o.pkg, "package", "", "the channels of this package of --catalog")
	f.StringVar(&o.channel, "channel", "", "the versions in this channel of --package")
	return c
}

func (o *listOperatorsOptions) check() error {
	switch {
	case o.pkg != "" && o.catalog == "":
		return errors.New("must specify --catalog with --package")
	case o.sizes && o.pkg == "":
		return errors.New("must specify --catalog and --package with --sizes")
	case o.channel != "" && o.pkg == "":
		return errors.New("must specify --catalog and --package with --channel")
	case o.catalog != "" && (o.catalogs || o.version != ""):
		return errors.New("--catalog is about one catalog, and --catalogs --version lists the vendor's: give one of them")
	case o.catalog == "" && o.version == "" && len(o.from) == 0:
		return hint.New(errors.New("must specify --catalog, or --catalogs with --version"), "for example --catalogs --version 4.20")
	}
	if err := checkOutput(o.output); err != nil {
		return err
	}
	return o.checkFrom()
}

// listedPackage is a package of a catalog, with its sizes where those are asked for.
type listedPackage struct {
	catalog.Package
	Sizes *listedSizes `json:"sizes,omitempty"`
}

func runListOperators(ctx context.Context, std stdio, o listOperatorsOptions) (err error) {
	if err := o.check(); err != nil {
		return err
	}
	from, err := o.opens(ctx, std)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, from.close()) }()
	switch {
	case o.catalog == "" && from.catalogs != nil:
		return listHeld(ctx, std, o, from)
	case o.catalog == "":
		return listCatalogs(ctx, std, o, from)
	}
	tmp, err := os.MkdirTemp("", "appliance-catalog-") // for what is read of an image
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	index, files, err := readCatalog(ctx, o.catalog, tmp, from)
	if err != nil {
		return fmt.Errorf("failed to load catalog: %w", err)
	}
	all, err := readPackages(ctx, index, files)
	if err == nil {
		all, err = o.asked(all)
	}
	if err != nil {
		return err
	}
	var unknown error
	if o.sizes {
		all[0].Sizes, unknown, err = readSizes(ctx, all[0], index, files, from)
	}
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = printJSON(std.out, all)
	} else {
		err = o.print(std.out, all)
	}
	return errors.Join(err, unknown)
}

// asked leaves the package and the channel that are asked for.
func (o *listOperatorsOptions) asked(all []listedPackage) ([]listedPackage, error) {
	if o.pkg != "" {
		if all = slices.DeleteFunc(all, func(p listedPackage) bool { return p.Name != o.pkg }); len(all) == 0 {
			return nil, hint.New(fmt.Errorf("operator %q not found in catalog", o.pkg), "appliance list operators --catalog "+o.catalog+" lists its operators")
		}
	}
	if o.channel != "" {
		all[0].Channels = slices.DeleteFunc(all[0].Channels, func(c catalog.Channel) bool { return c.Name != o.channel })
		if len(all[0].Channels) == 0 {
			return nil, hint.New(fmt.Errorf("channel %q not found for operator %q", o.channel, o.pkg), "leave --channel out to list its channels")
		}
	}
	return all, nil
}

// readPackages reads the packages of a catalog.
func readPackages(ctx context.Context, index *operator.Index, files fs.FS) (all []listedPackage, err error) {
	named, err := catalog.Named(ctx, index, files)
	for _, p := range named {
		all = append(all, listedPackage{Package: p})
	}
	return all, err
}

func readCatalog(ctx context.Context, name, tmp string, from *listedFrom) (*operator.Index, fs.FS, error) {
	if dir, ok := strings.CutPrefix(name, "dir://"); ok && from.catalogs == nil {
		files, err := catalog.OpenFiles(dir)
		if err != nil {
			return nil, nil, err
		}
		index, err := operator.Scan(ctx, files)
		return index, files, err
	}
	ref, err := from.find(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	source, err := from.open(ref)
	if err != nil {
		return nil, nil, err
	}
	return catalog.Load(ctx, source, ref.Ref(), tmp)
}

// print prints oc-mirror's tables.
func (o *listOperatorsOptions) print(out io.Writer, all []listedPackage) error {
	w := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if o.sizes {
		printSizes(w, *all[0].Sizes)
		return w.Flush()
	}
	if o.channel != "" {
		fmt.Fprintln(w, "VERSIONS")
		for _, v := range all[0].Channels[0].Versions {
			fmt.Fprintln(w, plain.Field(v))
		}
		return w.Flush()
	}
	fmt.Fprintln(w, "NAME\tDISPLAY NAME\tDEFAULT CHANNEL")
	for _, p := range all {
		fmt.Fprintf(w, "%s\t%s\t%s\n", plain.Field(p.Name), plain.Field(p.DisplayName), plain.Field(p.DefaultChannel))
	}
	if o.pkg != "" {
		fmt.Fprint(w, "\nPACKAGE\tCHANNEL\tHEAD\n")
		for _, c := range all[0].Channels {
			head := c.Head
			if head == "" {
				head = "ERROR: the channel does not have one head"
			}
			fmt.Fprintf(w, "%s\t%s\t%s\n", plain.Field(all[0].Name), plain.Field(c.Name), plain.Field(head))
		}
	}
	return w.Flush()
}

// listCatalogs prints the vendor's catalogs for a version.
func listCatalogs(ctx context.Context, std stdio, o listOperatorsOptions, from *listedFrom) error {
	version, err := semver.NewVersion(o.version)
	if err != nil {
		return hint.New(fmt.Errorf("--version %q is not a version", plain.Field(o.version)), "for example --version 4.20")
	}
	names := []string{"redhat-operator-index", "certified-operator-index", "community-operator-index"}
	if version.LessThan(semver.MustParse("4.22.0")) {
		names = append(names, "redhat-marketplace-index")
	}
	var errs []error
	found, out := []string{}, std.out
	if o.output == "json" {
		out = io.Discard
	}
	fmt.Fprintf(out, "Available OpenShift OperatorHub catalogs:\nOpenShift %s:\n", plain.Field(o.version))
	for _, name := range names {
		at := o.registry + name + ":v" + o.version
		ref, err := imageset.ParseReference(at)
		if err != nil {
			return err
		}
		source, err := from.open(ref)
		if err == nil {
			_, _, err = source.Manifest(ctx, ref.Tag)
		}
		switch {
		case err == nil:
			found = append(found, at)
			fmt.Fprintln(out, at)
		case errors.Is(err, fs.ErrNotExist):
			fmt.Fprintf(out, "Invalid catalog reference %q, please check version\n", at)
		default:
			errs = append(errs, fmt.Errorf("failed to check catalog %q: %w", at, err))
		}
	}
	if err := errors.Join(errs...); err != nil || o.output != "json" {
		return err
	}
	return printJSON(std.out, found)
}
