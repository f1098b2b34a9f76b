package main

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// newVersionCommand is oc-mirror's; --version says the same.
func newVersionCommand(std stdio) *cobra.Command {
	var output string
	var short bool
	c := &cobra.Command{
		Use: "version", Short: "Print the version of this program", Args: noArguments,
		RunE: func(*cobra.Command, []string) error { return runVersion(std, output, short) },
	}
	c.Flags().StringVarP(&output, "output", "o", "", "json or yaml for scripts")
	c.Flags().BoolVar(&short, "short", false, "the version alone")
	hide(c.Flags(), "v2", true)
	return c
}

func runVersion(std stdio, output string, short bool) error {
	switch {
	case output == "json":
		return printJSON(std.out, map[string]any{"clientVersion": map[string]string{
			"gitVersion": version, "goVersion": runtime.Version(), "compiler": runtime.Compiler, "platform": platform(),
		}})
	case output == "yaml":
		fmt.Fprintf(std.out, "clientVersion:\n  compiler: %s\n  gitVersion: %q\n  goVersion: %s\n  platform: %s\n",
			runtime.Compiler, version, runtime.Version(), platform())
	case output != "":
		return hint.New(fmt.Errorf("--output %q is not known", output), "leave it out, or use json or yaml")
	case short:
		fmt.Fprintln(std.out, version)
	default:
		fmt.Fprintf(std.out, "appliance version %s, %s, %s\n", version, runtime.Version(), platform())
	}
	return nil
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }
