package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/directory"
	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
)

type clusterConfigOptions struct {
	applianceOptions
	dir, installConfig string
	wish               cluster.Wish
	first              mirrorFlags
	also               othersFlags
	user               string
	passwordStdin      bool
	never, zeroTouch   bool
	force, dryRun      bool
	output             string
	warnings           []string
}

// mirrorFlags are the flags about the appliance.
type mirrorFlags struct {
	ca         string
	pullSecret string
}

// othersFlags are the flags about the appliances besides it.
type othersFlags struct {
	addresses   []string
	cas         []string
	pullSecrets []string
}

func (o *othersFlags) addFlags(f *pflag.FlagSet) {
	f.StringArrayVar(&o.addresses, "also", nil, "HOST:PORT of another appliance with the same content, which is asked when those before it do not answer; may be repeated")
	f.Var(pathsValue{&o.cas}, "also-ca", "its CA in PEM form; may be repeated (default: of the usual certs.d directories, or its /ca.crt)")
}

func newClusterConfigCommand(std stdio) *cobra.Command {
	var o clusterConfigOptions
	c := &cobra.Command{
		Use:   "cluster-config [docker://HOST:PORT] --dir DIR",
		Short: "Write what a cluster is installed with from this appliance",
		Long: `Write a directory with what an OpenShift cluster is installed with from the appliance of this host, or from another:
install-config.yaml and agent-config.yaml, manifests, the registries.conf of podman, what is applied to the running
cluster, and scripts that make the ISO and apply the rest, for a version of OpenShift. What was mirrored and what the
appliance pulls through are both in it; from elsewhere the latter takes the login of an administrator.

Nodes get the login of the user puller. The directory is written whole or not at all, for its owner alone; one that
is there is replaced if it is as this command has made it.`,
		Example: `  sudo appliance cluster-config --version 4.20 --dir prod
  appliance cluster-config docker://registry.example.com:8443 --pull-secret pull-secret.json --install-config mine.yaml --dir prod
  sudo appliance cluster-config --also second.example.com:8443 --also-pull-secret second.json --dir prod`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if err := noEmptyValue(c, "version", "arch", "user"); err != nil {
				return err
			}
			return runClusterConfig(c.Context(), std, o, args)
		},
	}
	f := c.Flags()
	o.addFlags(f)
	pathVar(f, &o.dir, "dir", "", "the directory to write")
	f.StringVar(&o.wish.Version, "version", "", "version of OpenShift, as 4.20 or 4.20.3 (default the newest that was mirrored)")
	f.StringVar(&o.wish.Machine, "arch", "", "architecture of the release: x86_64, aarch64, ppc64le, s390x or multi (default the only one)")
	pathVar(f, &o.installConfig, "install-config", "", "an install-config.yaml that gets the keys about the mirror; its other lines stay as they are")
	pathVar(f, &o.first.ca, "ca", "", "the appliance's CA in PEM form (default: that of the appliance)")
	pathVar(f, &o.first.pullSecret, "pull-secret", "", "a pull secret with the login of the nodes (default: on the appliance's host, its quay-config/pull-secret.json)")
	f.StringVar(&o.user, "user", "", "give nodes the login of this user, that of podman login, and not that of "+installer.PullerUser)
	f.BoolVar(&o.passwordStdin, "password-stdin", false, "read the password of --user from standard input")
	o.also.addFlags(f)
	f.Var(pathsValue{&o.also.pullSecrets}, "also-pull-secret", "a pull secret with its login; may be repeated (default: --pull-secret)")
	f.BoolVar(&o.never, "never-contact-source", false, "keep nodes from asking a source for what no mirror has")
	f.BoolVar(&o.zeroTouch, "ztp", false, "add the files of zero-touch provisioning, mirror/registries.conf and mirror/ca-bundle.crt")
	f.BoolVar(&o.force, "force", false, "move a directory aside that was changed, or that this command has not made")
	f.BoolVar(&o.dryRun, "dry-run", false, "list the files, and write none")
	addOutputFlag(f, &o.output)
	return c
}

// clusterConfig is what the command answers.
type clusterConfig struct {
	Dir      string        `json:"dir,omitempty"`
	Version  string        `json:"version"`
	Release  string        `json:"release,omitempty"`
	Files    []clusterFile `json:"files"`
	Warnings []string      `json:"warnings,omitempty"`
	Aside    string        `json:"movedAside,omitempty"`
	Written  bool          `json:"written"`
}

type clusterFile struct {
	Name   string `json:"name"`
	Mode   string `json:"mode"`
	Secret bool   `json:"secret,omitempty"`
}

func runClusterConfig(ctx context.Context, std stdio, o clusterConfigOptions, args []string) error {
	if err := o.check(); err != nil {
		return err
	}
	facts, err := o.facts(ctx, std, args)
	if err != nil {
		return err
	}
	made, err := cluster.Render(*facts)
	if err != nil {
		return err
	}
	answer := clusterConfig{Dir: o.dir, Version: facts.Version.String(), Release: facts.Release.Tag,
		Warnings: append(o.warnings, made.Warnings...), Written: !o.dryRun}
	for _, f := range made.Files {
		answer.Files = append(answer.Files, clusterFile{f.Name, fmt.Sprintf("%04o", directory.Mode(f)), f.Secret})
	}
	if !o.dryRun {
		if answer.Aside, err = directory.Write(o.dir, made.Files, o.force); err != nil {
			return err
		}
	}
	for _, w := range answer.Warnings {
		fmt.Fprintf(std.err, "warning: %s\n", plain.Line(w))
	}
	return show(std.out, o.output, answer, printClusterConfig)
}

// check looks at what can be told before an appliance is asked.
func (o *clusterConfigOptions) check() error {
	o.dir = strings.TrimPrefix(o.dir, "file://")
	if err := o.checkFlags(); err != nil {
		return err
	}
	if o.dir == "" || o.force {
		return nil
	}
	return directory.Check(o.dir)
}

func printClusterConfig(w io.Writer, c clusterConfig) {
	of := "OpenShift " + c.Version
	if c.Release != "" {
		of += ", release " + c.Release
	}
	fmt.Fprintln(w, plain.Line(of))
	for _, f := range c.Files {
		secret := ""
		if f.Secret {
			secret = "  has the login of the nodes"
		}
		fmt.Fprintf(w, "  %s  %s%s\n", f.Mode, plain.Line(f.Name), secret)
	}
	if c.Aside != "" {
		fmt.Fprintf(w, "what was there before is %s\n", plain.Line(c.Aside))
	}
	if c.Written {
		fmt.Fprintf(w, "next: %s\n", plain.Line(c.Dir+"/README.txt"))
	}
}

// readIf reads a file that a flag names, nil without one.
func readIf(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return regular.ReadFile(path)
}
