package main

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
)

type upgradeOptions struct {
	installOptions
	autoApprove bool
	rollback    bool
	recover     bool
}

func newUpgradeCommand(std stdio) *cobra.Command {
	var o upgradeOptions
	c := &cobra.Command{
		Use:   "upgrade",
		Short: "Have this program serve in the place of the one that is installed",
		Long: `Have this program serve in the place of the installed one. Hostname, port, directories, certificates,
users and images stay; --quayHostname changes the name, the port, or both, --sslCert and --sslKey the certificate.

--quayStorage and --sqliteStorage move images and database to other directories: within a file system by
rename, otherwise by a copy while the registry serves, after which it is stopped for what has changed since.
The old directories are removed at the end, as far as install made them. What was interrupted is completed
by the same command, or taken back by --rollback.

No connection is refused: the socket stays open while the daemon restarts, and pushes wait until the new
version is healthy. If it is not, or the host goes down meanwhile, program and database of before come
back. The program that was replaced stays beside the new one: --rollback goes back to it later.`,
		Example: "  sudo ./appliance upgrade\n  sudo appliance upgrade --rollback\n" +
			"  sudo appliance upgrade --quayStorage /srv/images",
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := o.foreign.check(c, std.err); err != nil {
				return err
			}
			if err := noEmptyValue(c, "quayHostname", "quayStorage", "sqliteStorage", "sslCert", "sslKey"); err != nil {
				return err
			}
			return o.run(c.Context(), std)
		},
	}
	f := c.Flags()
	o.placeOptions.addFlags(f)
	f.Lookup("quayStorage").Usage = "move the image layers to this directory"
	f.Lookup("sqliteStorage").Usage = "move the database to this directory"
	f.StringVar(&o.hostname, "quayHostname", "", "another name, and optionally port, for the registry: HOST[:PORT]")
	o.certificate.addFlags(f)
	f.BoolVar(&o.autoApprove, "autoApprove", false, "do not ask what a rollback may lose, or a cleanup; open the port in firewalld")
	f.BoolVar(&o.clean, "cleanup", false, cleanupUsage)
	f.BoolVar(&o.rollback, "rollback", false, "go back to the program that the last upgrade replaced")
	f.BoolVar(&o.recover, "recover", false, "")
	_ = f.MarkHidden("recover") // for the unit that runs at boot; it exists
	o.foreign.declare(f, foreignCommonFlags)
	o.foreign.declare(f, foreignInstallFlags)
	onOtherHosts(c, std, &o.remote)
	return c
}

func (o *upgradeOptions) run(ctx context.Context, std stdio) error {
	if err := errors.Join(o.absolute(), o.certificate.absolute()); err != nil {
		return err
	}
	if o.rollback && (o.hostname != "" || o.certificate.cert != "" || o.certificate.key != "" || o.quayStorage != "" || o.sqliteStorage != "") {
		return hint.New(errors.New("--rollback goes back to the version of before, and changes nothing else"),
			"leave out --quayHostname, --quayStorage, --sqliteStorage, --sslCert and --sslKey")
	}
	request, err := o.request(ctx, std.in)
	if err != nil {
		return err
	}
	request.OpenFirewall = o.autoApprove
	if o.rollback && o.clean {
		return hint.New(errors.New("--cleanup and --rollback are both given"), "give one after the other")
	}
	if !o.rollback && !o.recover && (o.clean || replacesQuay()) {
		o.adopt, o.remote.autoApprove = replacesQuay(), o.autoApprove
		return runInstall(ctx, std, o.installOptions)
	}
	if o.recover { // it waits for another command itself
		return installer.Recover(ctx, request, installerDeps(), func(line string) { fmt.Fprintln(std.err, line) })
	}
	unlock, err := installer.Lock(installerDeps())
	if err != nil {
		return err
	}
	defer unlock()
	if !o.rollback {
		if err := o.settle(ctx, std, request, false); err != nil {
			return err
		}
	}
	toPlan := installer.PlanUpgrade
	if o.rollback {
		toPlan = installer.PlanRollback
	}
	plan, err := toPlan(ctx, request, installerDeps())
	if err != nil {
		return err
	}
	if plan.Splits && !o.dryRun {
		if plan, err = o.programFirst(ctx, std, request); err != nil {
			return err
		}
	}
	if plan.Again && !o.dryRun {
		if _, _, err := o.carryOut(ctx, std, plan); err != nil {
			return err
		}
		if plan, err = toPlan(ctx, request, installerDeps()); err != nil {
			return err
		}
	}
	if plan.Loses != "" && o.output == "" {
		fmt.Fprintln(std.out, plan.Loses)
	}
	if plan.Loses != "" && !o.dryRun && !o.autoApprove {
		if yes, err := agrees(ctx, std.out, bufio.NewReader(std.in), "Go back all the same?"); err != nil || !yes {
			return cmp.Or(err, errors.New("nothing has been changed: the answer was no"))
		}
	}
	result, done, err := o.carryOut(ctx, std, plan)
	if !done || err != nil {
		return err
	}
	if !result.Changed {
		fmt.Fprintf(std.out, "nothing had to be changed: %s is installed already\n", cmp.Or(version, "this version"))
		if !o.rollback && otherPackaged(request.Binary) {
			fmt.Fprintf(std.out, "the package of this host has another version; to have that serve: %s upgrade\n", packaged)
		}
	}
	if result.CA != "" && result.Changed {
		fmt.Fprintf(std.out, "CA for clients to trust: https://%s/ca.crt, or %s\n", result.Address, result.CA)
	}
	fmt.Fprintf(std.out, "appliance is available at https://%s, with the users and images that it has had before\n", result.Address)
	return nil
}

// programFirst replaces the program, and returns the plan of the move that is then left.
func (o *upgradeOptions) programFirst(ctx context.Context, std stdio, request installer.Request) (*installer.Plan, error) {
	program := request
	program.QuayStorage, program.SqliteStorage = "", ""
	plan, err := installer.PlanUpgrade(ctx, program, installerDeps())
	if err != nil {
		return nil, err
	}
	if _, _, err := o.carryOut(ctx, std, plan); err != nil {
		return nil, err
	}
	return installer.PlanUpgrade(ctx, request, installerDeps())
}

// packaged is where a package puts the program. The service runs a copy, which "appliance" may mean.
const packaged = "/usr/bin/appliance"

// otherPackaged reports whether there is a packaged program that differs.
func otherPackaged(binary string) bool {
	theirs, err := os.ReadFile(packaged)
	if err != nil {
		return false
	}
	ours, err := os.ReadFile(binary)
	return err == nil && !bytes.Equal(theirs, ours)
}
