package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
)

func newCertReplaceCommand(std stdio) *cobra.Command {
	var o placeOptions
	var own certificateOptions
	c := &cobra.Command{
		Use:   "replace --sslCert FILE --sslKey FILE",
		Short: "Serve your own certificate, or another one than so far",
		Long: `Serve your own certificate, or another one than so far. Both files are judged, then copied, as install does it
with the same flags; nothing else is changed.`,
		Example: "  sudo appliance cert replace --sslCert chain.pem --sslKey key.pem",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if err := noEmptyValue(c, "sslCert", "sslKey"); err != nil {
				return err
			}
			if own.cert == "" && own.key == "" {
				return hint.New(errors.New("--sslCert and --sslKey are missing"),
					"name the certificate with its chain, and its key, both PEM")
			}
			if err := own.absolute(); err != nil {
				return err
			}
			return changeCertificate(c.Context(), std, o, func(r installer.Request) (*installer.Plan, error) {
				r.SSLCert, r.SSLKey, r.SSLCheckSkip = own.cert, own.key, own.checkSkip
				return installer.PlanReplace(c.Context(), r, installerDeps())
			}, "the certificate is served")
		},
	}
	addChangeFlags(c, &o)
	own.addFlags(c.Flags())
	return c
}

const (
	rotationBegun = `/ca.crt and the CA's file now have both CAs. Give the file to every client: nodes of clusters
(additionalTrustBundle, and the ConfigMap that image.config/cluster names), hosts that mirror, people.
The certificate is one of the old CA until all of them have had the time; then type:
  appliance cert rotate-ca --finish`
	rotationFinished = "the new CA has signed the certificate that is served; clients that trust only the old CA refuse it"
	rotationAborted  = "the old CA stays; clients that were given the new one need not be changed"
)

func newCertRotateCommand(std stdio) *cobra.Command {
	var o placeOptions
	var finish, abort bool
	c := &cobra.Command{
		Use:   "rotate-ca [--finish|--abort]",
		Short: "Replace the appliance's CA by a new one, in two parts",
		Long: `Replace the appliance's CA by a new one, in two parts. The first makes the new CA, and puts it beside the old one
at /ca.crt and into quay-rootCA/rootCA.pem; the certificate stays one of the old CA, so that no client is cut off. When
every client has been given the file, --finish makes a certificate of the new CA and forgets the old one. Until then
--abort takes the first part back.`,
		Example: "  sudo appliance cert rotate-ca",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			part, text := installer.RotationBegin, rotationBegun
			switch {
			case finish && abort:
				return hint.New(errors.New("--finish and --abort are given"), "give one of the two")
			case finish:
				part, text = installer.RotationFinish, rotationFinished
			case abort:
				part, text = installer.RotationAbort, rotationAborted
			}
			return changeCertificate(c.Context(), std, o, func(r installer.Request) (*installer.Plan, error) {
				return installer.PlanRotateCA(c.Context(), r, part, installerDeps())
			}, text)
		},
	}
	addChangeFlags(c, &o)
	c.Flags().BoolVar(&finish, "finish", false, "have the new CA sign from now on, and give the old one up")
	c.Flags().BoolVar(&abort, "abort", false, "give the new CA up")
	return c
}

func addChangeFlags(c *cobra.Command, o *placeOptions) {
	f := c.Flags()
	pathVar(f, &o.quayRoot, "quayRoot", "r", "install directory (default: that of the installed service)")
	f.BoolVar(&o.dryRun, "dry-run", false, "show what would be done, and do nothing")
	f.BoolVarP(&o.verbose, "verbose", "v", false, "say beforehand what is going to be done")
}

// changeCertificate carries out a plan about the installed appliance's certificates, and ends with
// text.
func changeCertificate(ctx context.Context, std stdio, o placeOptions,
	plan func(installer.Request) (*installer.Plan, error), text string) error {
	if err := o.absolute(); err != nil {
		return err
	}
	unlock, err := installer.Lock(installerDeps())
	if err != nil {
		return err
	}
	defer unlock()
	request := installer.Request{QuayRoot: o.quayRoot, User: os.Geteuid() != 0}
	if err := o.settle(ctx, std, request, false); err != nil {
		return err
	}
	p, err := plan(request)
	if err != nil {
		return err
	}
	result, done, err := o.carryOut(ctx, std, p)
	if !done || err != nil {
		return err
	}
	if !result.Changed {
		fmt.Fprintln(std.out, "nothing had to be changed")
	}
	fmt.Fprintln(std.out, typed(text))
	return nil
}
