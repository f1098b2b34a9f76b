package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

func newCertCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "cert",
		Short: "The certificate of the registry on this host, and its CA",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newCertShowCommand(std), newCertRenewCommand(std), newCertReplaceCommand(std), newCertRotateCommand(std), newCertUnshareCommand(std))
	return c
}

func newCertShowCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "show",
		Short: "Show the certificate that is served, and until when it is good",
		Args:  noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return runCert(c.Context(), std, o, (*client.Client).Certificate)
		},
	}
	o.addFlags(c.Flags())
	return c
}

func newCertRenewCommand(std stdio) *cobra.Command {
	var o askOptions
	c := &cobra.Command{
		Use:   "renew",
		Short: "Make a new certificate of the appliance's CA now",
		Long: `Make a new certificate, with a new key, of the appliance's CA now; it happens by itself long before the end.
New connections get it, no restart is needed, and clients notice nothing.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return runCert(c.Context(), std, o, (*client.Client).RenewCertificate)
		},
	}
	o.addFlags(c.Flags())
	return c
}

func newCertUnshareCommand(std stdio) *cobra.Command {
	var o locateOptions
	c := &cobra.Command{
		Use:   "unshare",
		Short: "Delete the certificates that several daemons share from their database",
		Long: `Delete the CA and the certificate that the daemons of one database share, which are encrypted there with the file that
sharedKey of config.yaml names. Each host has both as files, and its daemon goes on serving them. The next daemon that starts
shares those of its host, encrypted with its key; the others take them over when they start.

It is for a key that is lost or is to be changed, for another CA, and for another hostname of all daemons: change the file
at each host, run this once, and restart the daemons one after the other.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			err := withControl(c.Context(), std, &o, func(control *client.Client) error { return control.UnshareCertificate(c.Context()) })
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(std.out, "the daemons share no certificates any more: restart them one after the other, the one whose files are to be shared first")
			return err
		},
	}
	o.addFlags(c.Flags())
	return c
}

func runCert(ctx context.Context, std stdio, o askOptions,
	ask func(*client.Client, context.Context) (api.Certificate, error)) error {
	_, err := askDaemon(ctx, std, &o, func(control *client.Client) (api.Certificate, error) {
		return ask(control, ctx)
	}, printCertificate)
	return err
}

func printCertificate(w io.Writer, c api.Certificate) {
	t := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(name, format string, args ...any) {
		fmt.Fprintln(t, name+"\t"+plain.Line(fmt.Sprintf(format, args...)))
	}
	row("names", "%s", strings.Join(c.Names, ", "))
	row("subject", "%s", c.Subject)
	row("issuer", "%s", c.Issuer)
	row("valid", "%s", validity(c.CertificateInfo))
	if c.ACME != "" {
		row("ACME server", "%s", c.ACME)
	}
	if c.Renews {
		row("renewal", "by itself; at once with appliance cert renew")
	} else {
		row("renewal", "yours: appliance cert replace --sslCert FILE --sslKey FILE")
	}
	row("SHA-256", "%s", c.Fingerprint)
	row("files", "%s, %s", c.File, c.Key)
	for _, ca := range c.CA {
		signs := ""
		if ca.Signs && len(c.CA) > 1 {
			signs = ", signs the certificate"
		}
		row("CA", "%s, %s%s", ca.Subject, validity(ca.CertificateInfo), signs)
		row("", "SHA-256 %s", ca.Fingerprint)
	}
	if c.CAFile != "" {
		row("CA file", "%s", c.CAFile)
	}
	_ = t.Flush() // w keeps an error, see output
	for _, trouble := range c.Trouble {
		printTrouble(w, trouble)
	}
}

// validity prints the days of a certificate, which are what is read.
func validity(c api.CertificateInfo) string {
	left := count(c.DaysLeft, "day") + " left"
	if c.DaysLeft < 0 {
		left = "expired"
	}
	return fmt.Sprintf("from %s until %s (%s)", c.NotBefore.Local().Format(time.DateOnly),
		c.NotAfter.Local().Format(time.DateOnly), left)
}
