package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cluster/state"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror/upstream"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

type pinClusterOptions struct {
	applianceOptions
	output  string
	state   string
	request api.AttachRequest
}

func newPinClusterCommand(std stdio) *cobra.Command {
	var o pinClusterOptions
	c := &cobra.Command{
		Use:   "cluster {FILE|--state URL} [docker://HOST:PORT]",
		Short: "Attach a cluster: what it runs and may roll back to is neither deleted nor evicted",
		Long: `Attach a cluster to the registry of this host, or to another as a user of role admin. The releases that it runs, is updated to,
or may roll back to, with all their images, the images of its operators, and its catalogs are then neither deleted nor
evicted: mirror delete, prune, rollback and deletes by other programs are refused with the name of the cluster. What is not
here yet is protected once it is. FILE, or - for standard input, is made by:

  ` + state.Needed + ` > prod.json
  ` + state.Extensions + ` >> prod.json

The second is for clusters with OLM v1. Of it, versions, names of images and the mirrors by tag are kept. The same command with a newer file replaces what is known of the cluster. With
--user, that user, who may be of role pull, may do so too: see docs, updates. --state reads the file from a web server, with the
login for it in --authfile and the certificates in certs.d.`,
		Example: `  ` + state.Needed + ` | appliance pin cluster - --name prod
  appliance pin cluster prod.json --name prod --user prod-nodes docker://registry.example.com:8443`,
		Args: cobra.MaximumNArgs(2),
		RunE: func(c *cobra.Command, args []string) error { return runPinCluster(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	addOutputFlag(c.Flags(), &o.output)
	c.Flags().StringVar(&o.request.Name, "name", "", "name of the cluster, for people")
	c.Flags().StringVar(&o.request.User, "user", "", "user that may say what this cluster runs")
	c.Flags().StringVar(&o.state, "state", "", "address of the file, https://…")
	c.AddCommand(newPinClusterListCommand(std), newPinClusterRemoveCommand(std))
	return c
}

func runPinCluster(ctx context.Context, std stdio, o pinClusterOptions, args []string) error {
	var facts *state.Facts
	var err error
	switch {
	case o.state != "":
		facts, err = o.fetchState(ctx)
	case len(args) == 0 || strings.HasPrefix(args[0], "docker://"):
		return hint.New(errors.New("the file with what the cluster tells of itself is missing"), state.Needed+" | appliance pin cluster -")
	default:
		facts, err = readState(std, args[0])
		args = args[1:]
	}
	if err != nil {
		return err
	}
	o.request.Facts = facts.Needs()
	if err := o.request.Check(); err != nil {
		return err
	}
	return o.ask(ctx, std, args, func(control *client.Client) error {
		attached, err := control.AttachCluster(ctx, o.request)
		if err != nil {
			return err
		}
		return show(std.out, o.output, attached, printAttached)
	})
}

// fetchState reads what a cluster tells of itself from a web server.
func (o *pinClusterOptions) fetchState(ctx context.Context) (*state.Facts, error) {
	at, err := url.Parse(o.state)
	if err != nil || at.Host == "" || at.Scheme != "https" && at.Scheme != "http" || at.User != nil {
		return nil, hint.New(fmt.Errorf("--state %s is not the address of a file", plain.Line(o.state)), "https://HOST/FILE; a login belongs into --authfile")
	}
	files, err := upstream.TrustFiles("", at.Host)
	if err != nil {
		return nil, err
	}
	trust, err := upstream.TLSConfig(files, false)
	if err != nil {
		return nil, err
	}
	keys, err := (&credentials{}).keychain(o.authFile)
	if err != nil {
		return nil, err
	}
	login, err := loginFor(keys, at.Host, "")
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, at.String(), nil)
	if err != nil {
		return nil, err
	}
	if login.Username != "" {
		r.SetBasicAuth(login.Username, login.Password)
	}
	c := http.Client{Transport: &http.Transport{TLSClientConfig: trust, Proxy: http.ProxyFromEnvironment}}
	defer c.CloseIdleConnections()
	answer, err := c.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", at.Redacted(), answer.Status)
	}
	facts, err := state.Read(http.MaxBytesReader(nil, answer.Body, maxState))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", at.Redacted(), err)
	}
	return facts, nil
}

// maxState bounds what is read from a web server.
const maxState = 1 << 30

func newPinClusterListCommand(std stdio) *cobra.Command {
	var o pinClusterOptions
	c := &cobra.Command{
		Use: "list [docker://HOST:PORT]", Short: "List the attached clusters, and how much of what they need is here", Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return o.ask(c.Context(), std, args, func(control *client.Client) error {
				all, err := control.Clusters(c.Context())
				if err != nil {
					return err
				}
				return show(std.out, o.output, all, printClusters)
			})
		},
	}
	o.addFlags(c.Flags())
	addOutputFlag(c.Flags(), &o.output)
	return c
}

func newPinClusterRemoveCommand(std stdio) *cobra.Command {
	var o pinClusterOptions
	c := &cobra.Command{
		Use: "remove CLUSTER [docker://HOST:PORT]", Short: "Detach a cluster, by its id or its name: what it needs may go", Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error {
			if args[0] == "" {
				return usageError(c, hint.New(errors.New("the name of the cluster is empty"), "appliance pin cluster list has the names and ids"))
			}
			return o.ask(c.Context(), std, args[1:], func(control *client.Client) error {
				err := control.DetachCluster(c.Context(), args[0])
				if err == nil {
					fmt.Fprintln(std.out, "detached", plain.Line(args[0]))
				}
				return err
			})
		},
	}
	o.addFlags(c.Flags())
	return c
}

func printAttached(w io.Writer, c api.AttachedCluster) {
	fmt.Fprintln(w, plain.Line(fmt.Sprintf("attached %s: it has %s; %d of %s that it needs are here and protected", called(c), strings.Join(c.Releases, ", "), c.Held, count(c.Images, "image"))))
	printClusterProblems(w, c)
}

func printClusterProblems(w io.Writer, c api.AttachedCluster) {
	for _, p := range c.Problems {
		fmt.Fprintln(w, plain.Line("warning: "+called(c)+": "+p))
	}
}

// called returns the name of a cluster for people.
func called(c api.AttachedCluster) string {
	if c.Name != "" {
		return c.Name
	}
	return c.ID
}

func printClusters(w io.Writer, all []api.AttachedCluster) {
	if len(all) == 0 {
		fmt.Fprintln(w, "no cluster is attached: appliance pin cluster FILE")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "NAME\tID\tVERSION\tCHANNEL\tKEPT\tIMAGES HERE\tTOLD\tUSER")
	for _, c := range all {
		for i, text := range []string{c.Name, c.ID, cmp.Or(c.Version, "installing"), c.Channel, strings.Join(c.Releases, ","), fmt.Sprintf("%d of %d", c.Held, c.Images), when(c.Updated), c.User} {
			if text == "" {
				text = "-"
			}
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, plain.Line(text))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // w keeps an error, see output
	for _, c := range all {
		printClusterProblems(w, c)
	}
}
