package main

import (
	"errors"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry"
)

func newConfigCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "config",
		Short: "The configuration of the appliance of this host",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newConfigValidateCommand(std))
	return c
}

func newConfigValidateCommand(std stdio) *cobra.Command {
	var o askOptions
	var offline bool
	c := &cobra.Command{
		Use:   "validate [--config FILE]",
		Short: "Check config.yaml, and what it names, before the daemon reads it",
		Long: `Check config.yaml: its syntax and keys, the directories and files that it names, their owners and modes, certificates,
logins, that the hostname resolves, and that the port is free or this appliance's. It changes nothing, and needs no daemon.
With --config it may be a file that is to take the place of config.yaml.

Exit codes: 0 it can be used, warnings or not; 1 it cannot.`,
		Example: `  sudo appliance config validate
  sudo appliance config validate --offline --config new.yaml`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			e := installer.Examination{File: o.config, QuayRoot: o.quayRoot, ConfigOnly: true, Offline: offline}
			return tellFindings(std, o.output, "the configuration cannot be used", func(tell func(finding.Finding)) error {
				id, err := installer.Examine(c.Context(), installerDeps(), e, tell)
				if err == nil && id != nil && id.Config.DatabaseServer() != "" {
					if err := registry.CheckLogin(id.Config); err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, fs.ErrNotExist) { // of which it has told
						tell(finding.Finding{Check: "database", Level: finding.Failed, Text: err.Error(), Hint: hintOf(err)})
					}
				}
				return err
			})
		},
	}
	o.addFlags(c.Flags())
	c.Flags().BoolVar(&offline, "offline", false, "ask neither DNS nor ports")
	return c
}
