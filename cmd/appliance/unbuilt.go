package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// foreignFlags are flags of the programs we replace that are not built, or have nothing to do here. They are known by
// name, so that a script which uses one is told so, and not that it mistyped.
type foreignFlags struct {
	unbuilt []string
	notes   map[string]string // of those that are accepted: why they change nothing
	hints   map[string]string // of those that are not built: what to use instead
}

// add declares flags that take a value and are not built. A name may end with its shorthand: "ssh-key,k".
func (u *foreignFlags) add(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		u.unbuilt = append(u.unbuilt, hide(f, name, false))
	}
}

// addSwitches declares flags that take none.
func (u *foreignFlags) addSwitches(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		u.unbuilt = append(u.unbuilt, hide(f, name, true))
	}
}

// instead returns what to use in place of a flag that is not built.
func (u *foreignFlags) instead(name, next string) {
	if u.hints == nil {
		u.hints = make(map[string]string)
	}
	u.hints[name] = next
}

// accept declares a flag that changes nothing here. why is told to its user, unless it is empty.
func (u *foreignFlags) accept(f *pflag.FlagSet, name, why string) { u.note(hide(f, name, false), why) }

// acceptSwitch is accept for a flag that takes no value.
func (u *foreignFlags) acceptSwitch(f *pflag.FlagSet, name, why string) {
	u.note(hide(f, name, true), why)
}

func (u *foreignFlags) note(name, why string) {
	if u.notes == nil {
		u.notes = make(map[string]string)
	}
	u.notes[name] = why
}

// hide declares a flag that help does not list, and returns its name.
func hide(f *pflag.FlagSet, name string, isSwitch bool) string {
	name, short, _ := strings.Cut(name, ",")
	if isSwitch {
		f.BoolP(name, short, false, "")
	} else {
		f.StringP(name, short, "", "")
	}
	f.Lookup(name).Hidden = true
	return f.Lookup(name).Name
}

// check refuses those that were used and are not built, and tells of those that change nothing.
func (u *foreignFlags) check(c *cobra.Command, w io.Writer) error {
	for _, name := range u.unbuilt {
		if !c.Flags().Changed(name) {
			continue
		}
		next := u.hints[name]
		if next == "" {
			next = fmt.Sprintf("leave it out; %s --help lists what there is", c.CommandPath())
		}
		return hint.New(fmt.Errorf("--%s is not built yet", name), next)
	}
	c.Flags().Visit(func(f *pflag.Flag) {
		if why := u.notes[f.Name]; why != "" {
			fmt.Fprintf(w, "note: --%s changes nothing: %s\n", f.Name, why)
		}
	})
	return nil
}

// spellings are the names of flags that scripts write in several ways.
var spellings = []string{
	"quayHostname", "quayRoot", "quayStorage", "sqliteStorage", "initUser", "initPassword", "targetHostname", "targetUsername",
	"sslCert", "sslKey", "sslCheckSkip", "askBecomePass", "additionalArgs", "autoApprove", "keepContent",
	"ssh-key", "image-archive", "no-color", "log-level",
}

// oneSpelling takes --quay-hostname for --quayHostname, --sshKey for --ssh-key, and so on.
func oneSpelling(_ *pflag.FlagSet, name string) pflag.NormalizedName {
	bare := func(s string) string { return strings.ToLower(strings.ReplaceAll(s, "-", "")) }
	for _, known := range spellings {
		if bare(name) == bare(known) {
			return pflag.NormalizedName(known)
		}
	}
	return pflag.NormalizedName(name)
}

// newUnbuiltCommand is a command of the programs we replace that is not built: it refuses, whatever its flags.
func newUnbuiltCommand(name, short, next string) *cobra.Command {
	return &cobra.Command{
		Use: name, Short: short + " (not built yet)", Hidden: true,
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(c *cobra.Command, _ []string) error {
			return hint.New(fmt.Errorf("%s is not built yet", c.CommandPath()), next)
		},
	}
}

// unbuiltArchive refuses a workflow with an archive.
func unbuiltArchive(what string) error {
	return hint.New(fmt.Errorf("%s is not built yet", what),
		"mirror straight into a registry: docker://HOST:PORT with --workspace file://DIR; nothing has been written")
}

// unbuiltCommands are oc-mirror's: this program has them where oc-mirror does, and below mirror.
func unbuiltCommands() []*cobra.Command {
	const configuration = "until then write the image set configuration by hand, see docs/mirror.md"
	list := newUnbuiltCommand("list", "List releases, operators and updates", configuration)
	list.AddCommand(
		newUnbuiltCommand("operators", "List operators", configuration),
		newUnbuiltCommand("releases", "List releases", configuration),
		newUnbuiltCommand("updates", "List updates", configuration),
	)
	return []*cobra.Command{
		newUnbuiltCommand("delete", "Delete what an image set configuration names",
			"until then delete images by their digest (skopeo delete), then free their space: appliance gc"),
		list,
		newUnbuiltCommand("describe", "Describe an archive", "archives are not built yet either: mirror with docker:// and --workspace"),
		newUnbuiltCommand("init", "Print an image set configuration", configuration),
		newUnbuiltCommand("history", "List the runs of a workspace", "working-dir/logs of the workspace has the report of the last one"),
		newUnbuiltCommand("rollback", "Bring back the state before a run", "until then restore a backup: appliance restore"),
	}
}
