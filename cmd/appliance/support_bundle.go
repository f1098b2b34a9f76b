package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/support"
)

type bundleForSupport struct {
	locateOptions
	file string
}

func newSupportBundleCommand(std stdio) *cobra.Command {
	var o bundleForSupport
	c := &cobra.Command{
		Use:   "support-bundle [-o FILE.tar.gz]",
		Short: "Write an archive of all that tells how the appliance of this host is, without secrets",
		Long: `Write an archive for those who help: the journal of the service, config.yaml, what install has done, doctor, status,
metrics, the database's files and counts, units, the service's environment, versions, file systems and listeners. Passwords,
tokens, logins, keys, and the parameters of signed URLs are removed; names of hosts and repositories are not. Its mode is
0600. It also works when the daemon is down: README.txt in it lists what could not be collected.`,
		Example: `  sudo appliance support-bundle
  sudo appliance support-bundle -o /tmp/case-4711.tar.gz`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runSupportBundle(c.Context(), std, o) },
	}
	o.locateOptions.addFlags(c.Flags())
	pathVar(c.Flags(), &o.file, "output", "o", "file to write; - is standard output (default appliance-support-TIME.tar.gz in this directory)")
	return c
}

func runSupportBundle(ctx context.Context, std stdio, o bundleForSupport) error {
	traces, err := installer.Trace(installerDeps(), o.config, o.quayRoot)
	if err != nil {
		return err
	}
	about := support.Case{Traces: traces, Version: version,
		Examine: func(ctx context.Context, tell func(finding.Finding)) (*api.Status, error) {
			return examine(ctx, &o.locateOptions, tell)
		},
		Metrics: func(ctx context.Context) ([]byte, error) {
			if traces.Conf == nil {
				return nil, errors.New("config.yaml cannot be used")
			}
			return installer.Get(ctx, traces.Conf, "/metrics", 16<<20)
		}}
	write := func(w io.Writer) error {
		return support.Bundle(ctx, w, about, func(what string) { fmt.Fprintln(std.err, "collecting", what) })
	}
	if o.file == "-" {
		return write(std.out)
	}
	if o.file == "" {
		o.file = "appliance-support-" + time.Now().UTC().Format("20060102T150405Z") + ".tar.gz"
	}
	if err := writePrivate(o.file, write); err != nil {
		return fmt.Errorf("write %s: %w", o.file, err)
	}
	fmt.Fprintln(std.out, o.file)
	return nil
}

// writePrivate replaces a file by one that its owner alone can read.
func writePrivate(file string, write func(io.Writer) error) error {
	if f, err := openSpecial(file); f != nil || err != nil {
		if err == nil {
			err = errors.Join(write(f), f.Close())
		}
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(file), "."+filepath.Base(file)+".*") // mode 0600
	if err != nil {
		return err
	}
	if err := durable.Finish(tmp, write(tmp)); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	if err := os.Rename(tmp.Name(), file); err != nil {
		return errors.Join(err, os.Remove(tmp.Name()))
	}
	return nil
}
