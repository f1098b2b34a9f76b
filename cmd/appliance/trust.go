package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
)

func newTrustCommand(std stdio) *cobra.Command {
	var o placeOptions
	var undo bool
	c := &cobra.Command{
		Use:   "trust",
		Short: "Have this host trust the CA of its registry",
		Long: `Have this host trust the CA of its registry: in the system's bundle (update-ca-trust or update-ca-certificates), in
/etc/containers/certs.d for podman, skopeo and CRI-O, and in /etc/docker/certs.d for docker. As a user, in the
~/.config/containers and ~/.config/docker of that user alone. After a change of the CA, run it again.

--undo takes it back, as does uninstall. What was there before stays.`,
		Example: "  sudo appliance trust",
		Args:    noArguments,
		RunE:    func(c *cobra.Command, _ []string) error { return runTrust(c, std, o, undo) },
	}
	f := c.Flags()
	pathVar(f, &o.quayRoot, "quayRoot", "r", "install directory (default: that of the installed service)")
	f.BoolVar(&undo, "undo", false, "take back what this command has done")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and do nothing")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say beforehand what is going to be done")
	return c
}

func runTrust(c *cobra.Command, std stdio, o placeOptions, undo bool) error {
	if err := o.absolute(); err != nil {
		return err
	}
	unlock, err := installer.Lock(installerDeps())
	if err != nil {
		return err
	}
	defer unlock()
	request := installer.Request{QuayRoot: o.quayRoot, User: os.Geteuid() != 0}
	if err := o.settle(c.Context(), std, request, false); err != nil {
		return err
	}
	plan, err := installer.PlanTrust(c.Context(), request, installerDeps(), undo)
	if err != nil {
		return err
	}
	result, done, err := o.carryOut(c.Context(), std, plan)
	switch {
	case err != nil || !done:
	case !result.Changed:
		fmt.Fprintln(std.out, "nothing had to be changed")
	case undo:
		fmt.Fprintf(std.out, "this host has no CA of https://%s any more but what it had before\n", result.Address)
	default:
		fmt.Fprintf(std.out, "this host trusts https://%s; programs that run already may have to be restarted\n", result.Address)
	}
	return err
}
