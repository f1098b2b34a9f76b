package main

import (
	"fmt"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// unbuiltFlags are flags of the programs we replace that do nothing here yet. They are known by name, so that a
// script which uses one is told so, and not that it mistyped.
type unbuiltFlags struct{ names []string }

// addFlags declares flags that take a value.
func (u *unbuiltFlags) addFlags(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f.String(name, "", "not built yet")
		f.Lookup(name).Hidden = true
	}
	u.names = append(u.names, names...)
}

// addSwitches declares flags that take none.
func (u *unbuiltFlags) addSwitches(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f.Bool(name, false, "not built yet")
		f.Lookup(name).Hidden = true
	}
	u.names = append(u.names, names...)
}

// check refuses those that were used.
func (u *unbuiltFlags) check(c *cobra.Command) error {
	for _, name := range u.names {
		if c.Flags().Changed(name) {
			return &hintedError{
				err:  fmt.Errorf("--%s is not built yet", name),
				hint: fmt.Sprintf("leave it out; %s --help lists what there is", c.CommandPath()),
			}
		}
	}
	return nil
}

// addIgnored declares flags that scripts pass and that change nothing here.
func addIgnored(f *pflag.FlagSet, names ...string) {
	for _, name := range names {
		f.Bool(name, false, "accepted, changes nothing")
		f.Lookup(name).Hidden = true
	}
}
