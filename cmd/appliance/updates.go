package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/blang/semver/v4"
	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/graphdata"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newUpdatesCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "updates",
		Short: "See and load what the appliance answers to clusters that ask for updates",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newUpdatesShowCommand(std), newUpdatesLoadCommand(std), newUpdatesClusterConfigCommand(std))
	return c
}

type updatesShowOptions struct {
	applianceOptions
	output              string
	channel, arch, from string
	ofArch              bool // --arch was given
}

func newUpdatesShowCommand(std stdio) *cobra.Command {
	var o updatesShowOptions
	c := &cobra.Command{
		Use:   "show [docker://HOST:PORT]",
		Short: "Show which releases clusters are offered, and the updates between them",
		Long: `Show the releases that the registry of this host offers to clusters, or another's as a user of role admin, and the graph
data that they are offered by. With --channel, show the updates of a channel; with --from, what a cluster of that
version can reach, by which updates, and at which risks.`,
		Example: `  appliance updates show
  appliance updates show --channel eus-4.18 --from 4.16.30`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			o.ofArch = c.Flags().Changed("arch")
			return runUpdatesShow(c.Context(), std, o, args)
		},
	}
	o.addFlags(c.Flags())
	addOutputFlag(c.Flags(), &o.output)
	c.Flags().StringVar(&o.channel, "channel", "", "channel, such as stable-4.18")
	c.Flags().StringVar(&o.arch, "arch", "amd64", "architecture: amd64, arm64, ppc64le, s390x, multi")
	c.Flags().StringVar(&o.from, "from", "", "version of a cluster, such as 4.18.10")
	return c
}

func runUpdatesShow(ctx context.Context, std stdio, o updatesShowOptions, args []string) error {
	if o.from != "" && o.channel == "" {
		return hint.New(errors.New("--from needs the channel of the cluster"), "--channel, such as --channel stable-4.18; see oc get clusterversion version -o jsonpath={.spec.channel}")
	}
	if _, err := semver.Parse(o.from); o.from != "" && err != nil {
		return hint.New(fmt.Errorf("--from: %q is not the version of a release", o.from), "such as 4.18.10; see oc get clusterversion version -o jsonpath={.status.desired.version}")
	}
	if o.channel != "" {
		if err := graphdata.CheckChannel(o.channel); err != nil {
			return err
		}
	}
	return o.ask(ctx, std, args, func(control *client.Client) error {
		all, err := control.Updates(ctx, api.UpdatesRequest{Channel: o.channel, Arch: o.arch})
		switch {
		case err != nil:
			return err
		case o.channel == "":
			if o.ofArch {
				all.Releases = slices.DeleteFunc(all.Releases, func(r api.UpdateRelease) bool { return r.Arch != o.arch })
			}
			return show(std.out, o.output, all, printOffered)
		case all.Why != "":
			return errors.New(all.Why)
		}
		var g graphdata.Answer
		if err := json.Unmarshal(all.Graph, &g); err != nil {
			return fmt.Errorf("the graph of the appliance: %w", err)
		}
		if len(g.Nodes) == 0 {
			return noneIn(all, o.channel, o.arch)
		}
		if o.from == "" {
			return show(std.out, o.output, g, printGraph)
		}
		reached, err := reachable(g, o.from)
		if err != nil {
			return err
		}
		return show(std.out, o.output, reached, printReached)
	})
}

// noneIn returns the error of a channel that has no release for an architecture.
func noneIn(all api.Updates, channel, arch string) error {
	err := fmt.Errorf("no release for %s that the registry has is in channel %s", arch, channel)
	var archs []string
	for _, r := range all.Releases {
		if slices.Contains(r.Channels, channel) {
			archs = append(archs, r.Arch)
		}
	}
	slices.Sort(archs)
	if archs = slices.Compact(archs); len(archs) > 0 {
		return hint.New(err, "it has releases for "+strings.Join(archs, ", ")+": --arch")
	}
	return hint.New(err, "appliance updates show lists the releases with their channels")
}

func printOffered(w io.Writer, u api.Updates) {
	if u.Why != "" {
		fmt.Fprintln(w, plain.Line("clusters are offered nothing: "+u.Why))
	}
	if d := u.GraphData; d != nil {
		fmt.Fprintf(w, "graph data: %s, since %s, schema %s\n", plain.Line(d.Image), when(d.Since), plain.Line(d.Version))
	}
	if len(u.Releases) > 0 {
		t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		fmt.Fprintln(t, "VERSION\tARCH\tSIGNATURES\tCHANNELS")
		for _, r := range u.Releases {
			channels := strings.Join(r.Channels, " ")
			if channels == "" {
				channels = "-"
			}
			fmt.Fprintf(t, "%s\t%s\t%d\t%s\n", plain.Line(r.Version), plain.Line(r.Arch), r.Signatures, plain.Line(channels))
		}
		_ = t.Flush() // w keeps an error, see output
	}
	for _, p := range u.Problems {
		fmt.Fprintln(w, plain.Line("warning: "+p.Where+": "+p.What))
	}
}

// printGraph prints the updates to each release of a channel.
func printGraph(w io.Writer, g graphdata.Answer) {
	plainly, risky := make([][]string, len(g.Nodes)), map[string][]string{}
	for _, e := range g.Edges {
		plainly[e[1]] = append(plainly[e[1]], g.Nodes[e[0]].Version)
	}
	for _, c := range g.Conditional {
		for _, e := range c.Edges {
			risky[e.To] = append(risky[e.To], e.From)
		}
	}
	list := func(all []string) string {
		if len(all) == 0 {
			return "-"
		}
		return plain.Line(strings.Join(all, " "))
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VERSION\tUPDATED TO FROM\tWITH RISKS FROM")
	for i, n := range g.Nodes {
		fmt.Fprintf(t, "%s\t%s\t%s\n", plain.Line(n.Version), list(plainly[i]), list(risky[n.Version]))
	}
	_ = t.Flush() // w keeps an error, see output
	printRisks(w, g.Conditional)
}

func printRisks(w io.Writer, all []graphdata.Conditional) {
	told := map[string]bool{}
	for _, c := range all {
		for _, r := range c.Risks {
			if !told[r.Name] {
				told[r.Name] = true
				fmt.Fprintln(w, plain.Line(fmt.Sprintf("risk %s: %s %s", r.Name, strings.TrimSpace(r.Message), r.URL)))
			}
		}
	}
}

// reached is a release that a cluster can be updated to.
type reached struct {
	Version string          `json:"version"`
	Hops    []graphdata.Hop `json:"hops"`
}

// reachable returns what a cluster of a version can reach, by version.
func reachable(g graphdata.Answer, from string) ([]reached, error) {
	routes := g.Routes(from)
	if len(routes) == 0 {
		return nil, hint.New(fmt.Errorf("release %s is not in the channel, or not in the registry: a cluster of that version would be offered nothing", from),
			"mirror that release too, or choose a channel that has it")
	}
	all := []reached{}
	for to, hops := range maps.All(routes) {
		if to != from {
			all = append(all, reached{to, hops})
		}
	}
	slices.SortFunc(all, func(a, b reached) int {
		v, err := semver.Parse(a.Version)
		x, err2 := semver.Parse(b.Version)
		if err != nil || err2 != nil {
			return strings.Compare(a.Version, b.Version)
		}
		return v.Compare(x)
	})
	return all, nil
}

func printReached(w io.Writer, all []reached) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no update leads from it to a release that the registry has")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "VERSION\tUPDATES\tRISKS")
	var risks []graphdata.Conditional
	for _, r := range all {
		var steps, names []string
		for _, h := range r.Hops {
			steps = append(steps, h.To)
			for _, risk := range h.Risks {
				names = append(names, risk.Name)
			}
			risks = append(risks, graphdata.Conditional{Risks: h.Risks})
		}
		slices.Sort(names)
		named := strings.Join(slices.Compact(names), " ")
		if named == "" {
			named = "-"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", plain.Line(r.Version), plain.Line(strings.Join(steps, " > ")), plain.Line(named))
	}
	_ = t.Flush() // w keeps an error, see output
	printRisks(w, risks)
}

type updatesLoadOptions struct {
	applianceOptions
	output string
	dryRun bool
	force  bool
}

func newUpdatesLoadCommand(std stdio) *cobra.Command {
	var o updatesLoadOptions
	c := &cobra.Command{
		Use:   "load FILE [docker://HOST:PORT]",
		Short: "Load an archive of graph data, by which releases are offered to clusters",
		Long: `Load an archive of graph data into the registry of this host, or into another as a user of role admin: the .tar.gz of
https://api.openshift.com/api/upgrades_info/graph-data, or one of the repository openshift/cincinnati-graph-data; - is
standard input. It counts until a mirror run with platform.graph: true brings newer data. An archive that cannot be used, or
not all of it, is refused.`,
		Example: `  curl -O https://api.openshift.com/api/upgrades_info/graph-data   # where there is internet
  appliance updates load graph-data`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || len(args) > 2 {
				return hint.New(errors.New("an archive of graph data is wanted"), "appliance updates load FILE")
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return runUpdatesLoad(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	addOutputFlag(c.Flags(), &o.output)
	c.Flags().BoolVar(&o.dryRun, "dry-run", false, "read the archive, and load nothing")
	c.Flags().BoolVar(&o.force, "force", false, "load an archive of which a part has no effect, such as a blocked update that cannot be read")
	return c
}

// maxGraphArchive bounds an archive of graph data; the real one has some 220 KB.
const maxGraphArchive = 64 << 20

func runUpdatesLoad(ctx context.Context, std stdio, o updatesLoadOptions, args []string) error {
	archive, err := readGraphArchive(std, args[0])
	if err != nil {
		return err
	}
	load := func(begin func(context.Context, string) (mirror.Destination, error)) error {
		loaded, err := mirror.LoadGraphData(ctx, archive, o.force, begin)
		if err != nil {
			return err
		}
		return show(std.out, o.output, loaded, func(w io.Writer, l *mirror.LoadedGraph) { printLoaded(w, l, o.dryRun) })
	}
	if o.dryRun {
		return load(nil)
	}
	return o.ask(ctx, std, args[1:], func(control *client.Client) error {
		return load(func(ctx context.Context, name string) (mirror.Destination, error) {
			return control.BeginSync(ctx, name)
		})
	})
}

func readGraphArchive(std stdio, file string) ([]byte, error) {
	if file != "-" {
		return regular.ReadFileUpTo(file, maxGraphArchive)
	}
	archive, err := io.ReadAll(io.LimitReader(std.in, maxGraphArchive+1))
	if err == nil && len(archive) > maxGraphArchive {
		err = fmt.Errorf("standard input: more than %d bytes", maxGraphArchive)
	}
	return archive, err
}

func printLoaded(w io.Writer, l *mirror.LoadedGraph, dryRun bool) {
	verb := "loaded into"
	if dryRun {
		verb = "would be loaded into"
	}
	fmt.Fprintf(w, "graph data of schema %s with %s %s %s@%s\n", plain.Line(l.Version), count(l.Channels, "channel"), verb, l.Image, l.Digest)
	for _, p := range l.Problems {
		fmt.Fprintln(w, plain.Line("warning: "+p.Where+": "+p.What))
	}
}
