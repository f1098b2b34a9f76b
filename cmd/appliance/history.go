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
	var o mirrorOptions
	c := &cobra.Command{
		Use: "history --workspace file://DIR", Short: "List the runs of a workspace",
		Example: "  appliance mirror history --workspace file:///data/mirror", Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return runHistory(std, o) },
	}
	pathVar(c.Flags(), &o.workspace, "workspace", "", "file://DIR of the runs")
	addOutputFlag(c.Flags(), &o.output)
	hide(c.Flags(), "v2", true)
	return c
}

func runHistory(std stdio, o mirrorOptions) error {
	if o.workspace == "" || o.workspace == "file://" {
		return hint.New(errors.New("history needs the workspace of the runs"), "--workspace file:///data/mirror")
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
