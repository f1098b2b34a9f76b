package main

import (
	"errors"
	"fmt"
	"os"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/mirror"
)

func newHistoryCommand(std stdio) *cobra.Command {
	var o rollbackOptions
	c := &cobra.Command{
		Use: "history {--workspace file://DIR | docker://HOST:PORT}", Short: "List the runs of a workspace, or of an appliance",
		Long: `List the runs of a workspace with their reports, or, as a user of role admin, the changes of an appliance: the runs
that were mirrored into it, the rollbacks, and the changes of its views of catalogs with the reason of each.`,
		Example: `  appliance mirror history --workspace file:///data/mirror
  appliance mirror history docker://registry.example.com:8443`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 && (c.Flags().Changed("limit") || o.past.WithoutViews) {
				return hint.New(errors.New("--limit and --without-views are of the changes of an appliance"), "name the appliance: docker://HOST:PORT")
			}
			if len(args) == 0 {
				return runHistory(std, o.mirrorOptions)
			}
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			o.list = true
			return runRollback(c.Context(), std, o, args[0])
		},
	}
	o.addCommon(c.Flags())
	o.addPast(c.Flags())
	for _, flag := range []string{"workspace", "dest-tls-verify", "dest-cert-dir", "output"} {
		c.Flags().Lookup(flag).Hidden = false
	}
	return c
}

func runHistory(std stdio, o mirrorOptions) error {
	if o.workspace == "" || o.workspace == "file://" {
		return hint.New(errors.New("history needs the workspace of the runs, or an appliance"), "--workspace file:///data/mirror, or docker://HOST:PORT")
	}
	runs, err := mirror.History(o.workspaceDir())
	if err == nil && len(runs) == 0 {
		_, err = os.Stat(o.workspaceDir())
	}
	if err != nil {
		return err
	}
	if o.output == "json" {
		if runs == nil {
			runs = []mirror.Past{}
		}
		return printJSON(std.out, runs)
	}
	if len(runs) == 0 {
		fmt.Fprintln(std.out, "no run has ended in this workspace")
		return nil
	}
	w := tabwriter.NewWriter(std.out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "STARTED\tREGISTRY\tMIRRORED\tFAILED\tREPORT")
	for _, r := range runs {
		fmt.Fprintf(w, "%s\t%s\t%d of %d\t%d\t%s\n", r.Started.Local().Format(time.DateTime),
			r.Registry, r.Mirrored, r.Planned, r.Failed, r.File)
	}
	return w.Flush()
}
