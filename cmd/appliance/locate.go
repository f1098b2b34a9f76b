package main

import (
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/installer"
)

// locateOptions say which appliance of this host a command is about.
type locateOptions struct {
	config   string
	quayRoot string
	held     bool // the command is about existing content, and does not make a database
}

func (o *locateOptions) addFlags(f *pflag.FlagSet) {
	pathVar(f, &o.config, "config", "", "its config.yaml (default: that of the installed service)")
	o.addRootFlag(f)
}

func (o *locateOptions) addRootFlag(f *pflag.FlagSet) {
	pathVar(f, &o.quayRoot, "quayRoot", "r", "its install directory (default: that of the installed service)")
}

func (o *locateOptions) load() (*installer.Identity, error) {
	return installer.Locate(installerDeps(), o.config, o.quayRoot)
}
