package main

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/blang/semver/v4"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

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
		return printJSON(std.out, map[string]any{"clientVersion": versionFields()})
	case output == "yaml":
		text, err := yaml.Marshal(map[string]any{"clientVersion": versionFields()})
		if err == nil {
			_, err = std.out.Write(text)
		}
		return err
	case output != "":
		return hint.New(fmt.Errorf("--output %q is not known", output), "leave it out, or use json or yaml")
	case short:
		fmt.Fprintln(std.out, version)
	default:
		fmt.Fprintf(std.out, "appliance version %s, %s, %s\n", version, runtime.Version(), platform())
	}
	return nil
}

// versionFields returns the fields that oc-mirror prints, as far as they are known of this build.
func versionFields() map[string]string {
	fields := map[string]string{"gitVersion": version, "goVersion": runtime.Version(), "compiler": runtime.Compiler, "platform": platform()}
	if v, err := semver.ParseTolerant(version); err == nil {
		fields["major"], fields["minor"] = fmt.Sprint(v.Major), fmt.Sprint(v.Minor)
	}
	if t := builtAt(); !t.IsZero() {
		fields["buildDate"] = t.UTC().Format(time.RFC3339)
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return fields
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			fields["gitCommit"] = s.Value
		case "vcs.modified":
			fields["gitTreeState"] = map[string]string{"true": "dirty", "false": "clean"}[s.Value]
		}
	}
	return fields
}

// built is the time of the commit that this program was made of, in seconds since 1970. The linker
// sets it (see Makefile).
var built string

// builtAt returns the zero time for a build without it.
func builtAt() time.Time {
	seconds, err := strconv.ParseInt(built, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.Unix(seconds, 0)
}

func platform() string { return runtime.GOOS + "/" + runtime.GOARCH }
