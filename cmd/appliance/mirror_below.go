package main

import (
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// addOCMirror adds oc-mirror's commands, which this program has where oc-mirror
// does, and below mirror.
func addOCMirror(to *cobra.Command, std stdio) {
	to.AddCommand(newDeleteCommand(std), newListCommand(std), newInitCommand(std),
		newHistoryCommand(std), newDescribeCommand(std),
		newRollbackCommand(std))
}

// common are the flags of oc-mirror's other commands that help lists: it has those
// of mirror there too.
var common = map[string]bool{"authfile": true, "src-tls-verify": true, "src-cert-dir": true}

// addCommon adds the flags that oc-mirror has for all of its commands.
func (o *mirrorOptions) addCommon(f *pflag.FlagSet) {
	o.addFlags(f)
	f.VisitAll(func(flag *pflag.Flag) { flag.Hidden = flag.Hidden || !common[flag.Name] })
}

// readCommon reads them.
func (o *mirrorOptions) readCommon(c *cobra.Command, std stdio) error {
	if err := o.foreign.check(c, std.err); err != nil {
		return err
	}
	return o.readAliases(c.Flags())
}
