package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/fetch"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
)

// releaseRepository is where OpenShift's releases are tagged.
const releaseRepository = "quay.io/openshift-release-dev/ocp-release"

// listOptions are the flags of list releases.
type listOptions struct {
	mirrorOptions
	version, channel string
	channels         bool
	archs            []string
	repository       string
}

func newListCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use: "list", Short: "List the releases and operators that can be mirrored", Args: noSuchCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newListReleasesCommand(std, releaseRepository), newListOperatorsCommand(std, vendorRegistry), newListUpdatesCommand(std))
	return c
}

func newListReleasesCommand(std stdio, repository string) *cobra.Command {
	o := listOptions{repository: repository}
	c := &cobra.Command{
		Use:   "releases",
		Short: "List releases: the minor versions, the releases of a channel, or the channels of a version",
		Example: `  appliance list releases
  appliance list releases --version 4.20
  appliance list releases --channel fast-4.20 --filter-by-archs amd64,arm64
  appliance list releases --channels --version 4.20 -o json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			return runListReleases(c.Context(), std, o)
		},
	}
	o.addCommon(c.Flags())
	f := c.Flags()
	f.StringVar(&o.version, "version", "", "the minor version, such as 4.20: the releases of its channel stable-4.20")
	f.StringVar(&o.channel, "channel", "", "the releases of this channel")
	f.BoolVar(&o.channels, "channels", false, "the channels of --version")
	f.StringSliceVar(&o.archs, "filter-by-archs", []string{"amd64"},
		"architectures: "+strings.Join(imageset.Architectures(), ", "))
	return c
}

func (o *listOptions) check() error {
	switch {
	case o.channels && o.version == "":
		return hint.New(errors.New("must specify --version with --channels"), "for example --version 4.20")
	case o.version != "" && o.channel == "":
		o.channel = "stable-" + o.version
	}
	for _, arch := range o.archs {
		if !slices.Contains(imageset.Architectures(), arch) {
			return fmt.Errorf("invalid architecture(s) %s. Known architectures: %s", arch,
				strings.Join(imageset.Architectures(), ", "))
		}
	}
	return nil
}

func runListReleases(ctx context.Context, std stdio, o listOptions) error {
	if err := errors.Join(o.check(), checkOutput(o.output)); err != nil {
		return err
	}
	service, err := updateService()
	if err != nil {
		return err
	}
	graphs := updategraph.Client{URL: cmp.Or(service, updategraph.OCP), HTTP: fetch.NewHTTPClient(o.srcVerify)}
	switch {
	case o.channels:
		graph, err := graphs.Fetch(ctx, o.channel, "amd64") // all architectures have the same
		if err != nil {
			return err
		}
		return show(std.out, o.output, listedChannels{o.version, graph.Channels()}, func(w io.Writer, l listedChannels) {
			fmt.Fprintf(w, "Listing channels for version %s:\n\n%s\n", l.Version, strings.Join(l.Channels, "\n"))
		})
	case o.channel != "":
		return listVersions(ctx, std, o, graphs)
	}
	return listMinors(ctx, std, o)
}

// What -o json prints, of a version and of a channel.
type (
	listedChannels struct {
		Version  string   `json:"version"`
		Channels []string `json:"channels"`
	}
	listedReleases struct {
		Channel      string   `json:"channel"`
		Architecture string   `json:"architecture"`
		Releases     []string `json:"releases"`
	}
)

// listVersions prints the releases of a channel.
func listVersions(ctx context.Context, std stdio, o listOptions, graphs updategraph.Client) error {
	if strings.HasPrefix(o.channel, "stable") && o.output != "json" {
		fmt.Fprintf(std.out, "Listing stable channels. Use --channel=<name> to filter.\n"+
			"Use oc-mirror --v2 list releases --channels --version=%s to discover other channels.\n\n", cmp.Or(o.version, strings.TrimPrefix(o.channel, "stable-")))
	}
	var errs []error
	listed := []listedReleases{}
	for _, arch := range o.archs {
		graph, err := graphs.Fetch(ctx, o.channel, arch)
		if err == nil && len(graph.Nodes) == 0 {
			err = hint.New(fmt.Errorf("channel %q: no versions found for %s", o.channel, arch),
				"appliance list releases --channels --version X.Y lists the channels of a version")
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		one := listedReleases{o.channel, arch, []string{}}
		for _, v := range graph.Versions() {
			one.Releases = append(one.Releases, v.String())
		}
		listed = append(listed, one)
	}
	err := show(std.out, o.output, listed, func(w io.Writer, all []listedReleases) {
		for _, one := range all {
			fmt.Fprintf(w, "Channel: %s\nArchitecture: %s\n%s\n", one.Channel, one.Architecture, strings.Join(one.Releases, "\n"))
		}
	})
	return errors.Join(append(errs, err)...)
}

// listedSources returns the registries that a list is read from. Only warnings are logged.
func (o *mirrorOptions) listedSources(ctx context.Context, std stdio) (*sources, error) {
	keys, err := o.source.keychain(o.authFile)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: plain.Attr}))
	return o.openSources(ctx, keys, log)
}

// minor is the beginning of a release's tag.
var minor = regexp.MustCompile(`^(\d+)\.(\d+)\.`)

// listMinors prints the minor versions that have releases.
func listMinors(ctx context.Context, std stdio, o listOptions) error {
	ref, err := imageset.ParseReference(o.repository + ":any")
	if err != nil {
		return err
	}
	from, err := o.listedSources(ctx, std)
	if err != nil {
		return err
	}
	defer from.close()
	repository, err := from.Open(ref.Registry(), ref.Repository())
	if err != nil {
		return err
	}
	tags, err := repository.Tags(ctx)
	if err != nil {
		return err
	}
	var all [][2]int
	for _, tag := range tags {
		m := minor.FindStringSubmatch(tag)
		if m == nil {
			continue
		}
		x, errX := strconv.Atoi(m[1])
		y, errY := strconv.Atoi(m[2])
		if errX == nil && errY == nil {
			all = append(all, [2]int{x, y})
		}
	}
	slices.SortFunc(all, func(a, b [2]int) int { return slices.Compare(a[:], b[:]) })
	minors := []string{}
	for _, v := range slices.Compact(all) {
		minors = append(minors, fmt.Sprintf("%d.%d", v[0], v[1]))
	}
	return show(std.out, o.output, minors, func(w io.Writer, minors []string) {
		fmt.Fprintln(w, "Available OpenShift Container Platform release versions:")
		for _, v := range minors {
			fmt.Fprintln(w, " ", v)
		}
	})
}
