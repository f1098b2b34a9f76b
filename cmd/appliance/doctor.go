package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/cluster"
	"github.com/mirror-appliance/appliance/cluster/node"
	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/support"
)

type doctorOptions struct {
	locateOptions
	asNode     bool
	from       string
	releases   []string
	machine    string
	ca         string
	pullSecret string
	output     string
}

func newDoctorCommand(std stdio) *cobra.Command {
	var o doctorOptions
	c := &cobra.Command{
		Use:   "doctor [--as-node [--from DIR|FILE]]",
		Short: "Look at the appliance of this host, or at a registry as a node does, and print what is wrong",
		Long: `Look at the appliance of this host and print what is wrong with it, one line each, with what to do: units, port, name,
certificate, config.yaml and the files that it names, directories and space, database, the last collections and syncs,
upstreams, clock, firewall. It changes nothing, and also works when the daemon does not run.

With --as-node, look at a registry as a node of a cluster does: the name, the certificate with the CAs that nodes get, the
clock, the login of the pull secret, and for each release the mirrors of all its images, their manifests and layers, the
answer about signatures, and the boot image. Layers are asked for and not fetched. What an upstream has yet to give is
there too, as long as it answers. Without --from it is this host's appliance with what cluster-config would write now, and
the releases that it holds. With --from, from any host: a directory of cluster-config, an install-config.yaml, or a
registries.conf (a name that ends with .conf).

Exit codes: 0 nothing failed, warnings or not; 1 something failed.`,
		Example: `  sudo appliance doctor
  sudo appliance doctor --as-node
  appliance doctor --as-node --from prod
  appliance doctor --as-node --from /etc/containers/registries.conf --pull-secret pull-secret.json`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			for _, name := range []string{"from", "release", "arch", "ca", "pull-secret"} {
				if !o.asNode && c.Flags().Changed(name) {
					return usageError(c, fmt.Errorf("--%s is for --as-node", name))
				}
			}
			return runDoctor(c.Context(), std, o)
		},
	}
	f := c.Flags()
	o.locateOptions.addFlags(f)
	f.BoolVar(&o.asNode, "as-node", false, "look at the registry as a node does")
	pathVar(f, &o.from, "from", "", "what nodes are given: a directory of cluster-config, an install-config.yaml or a registries.conf")
	f.StringArrayVar(&o.releases, "release", nil, "look at this release, HOST:PORT/REPOSITORY@sha256:… or :TAG; may be repeated (default those that are held, or that of the directory)")
	f.StringVar(&o.machine, "arch", "", "architecture of the hosts: x86_64, aarch64, ppc64le or s390x (default all that are there)")
	pathVar(f, &o.ca, "ca", "", "CAs in PEM form that nodes get (default: of --from)")
	pathVar(f, &o.pullSecret, "pull-secret", "", "pull secret that nodes get (default: of --from)")
	addOutputFlag(f, &o.output)
	return c
}

func runDoctor(ctx context.Context, std stdio, o doctorOptions) error {
	if !o.asNode {
		return tellFindings(std, o.output, "wrong with this appliance", func(tell func(finding.Finding)) error {
			_, err := examine(ctx, &o.locateOptions, tell)
			return err
		})
	}
	if o.machine != "" && cluster.Architecture(o.machine) == "" {
		return hint.New(fmt.Errorf("--arch %q is not an architecture of hosts", o.machine), "one of x86_64, aarch64, ppc64le and s390x")
	}
	facts, err := o.facts(ctx, std)
	if err != nil {
		return err
	}
	say := nowAndThen(std.err)
	return tellFindings(std, o.output, "a node would fail", func(tell func(finding.Finding)) error {
		return node.Check(ctx, facts, node.Options{UserAgent: "appliance/" + version, Tell: tell,
			Progress: func(done, images int) { say("%d of %s", done, count(images, "image")) }})
	})
}

// examine looks at the appliance of this host, and asks its daemon. The status is nil without an
// answer.
func examine(ctx context.Context, o *locateOptions, tell func(finding.Finding)) (status *api.Status, err error) {
	examined, asked := support.Once(tell)
	id, err := installer.Examine(ctx, installerDeps(), installer.Examination{File: o.config, QuayRoot: o.quayRoot, Waits: waits}, examined)
	if err != nil || id == nil {
		return nil, err
	}
	err = registry.Daemon(ctx, id.Config, id.UID, func(control *client.Client) error {
		status = support.Ask(ctx, control, version, asked)
		return nil
	})
	if err != nil {
		tell(finding.Finding{Check: "daemon", Level: finding.Failed, Text: err.Error(), Hint: hintOf(err)})
		servers, err := lookAtServers(ctx, id)
		if err != nil {
			finding.Teller(tell).Warn("daemon", "", "the servers that its start needs cannot be looked at: "+err.Error(), hintOf(err))
		}
		for _, f := range servers {
			tell(f)
		}
	}
	return status, ctx.Err()
}

// waits is installer.Examination.Waits.
func waits(ctx context.Context, id *installer.Identity) (waits bool) {
	err := registry.Daemon(ctx, id.Config, id.UID, func(control *client.Client) error {
		status, err := control.Status(ctx)
		waits = status.Waiting != nil
		return err
	})
	return waits && err == nil
}

// tellFindings prints what look finds, and returns an error, that begins with failed, if something
// has failed.
func tellFindings(std stdio, output, failed string, look func(tell func(finding.Finding)) error) error {
	all := []finding.Finding{}
	err := look(func(f finding.Finding) {
		all = append(all, f)
		if output == "" {
			printFinding(std.out, f)
		}
	})
	if err == nil && output != "" {
		err = show(std.out, output, all, nil)
	}
	if err != nil {
		return err
	}
	n := 0
	for _, f := range all {
		if f.Level == finding.Failed {
			n++
		}
	}
	if n > 0 {
		return fmt.Errorf("%s: %s", failed, count(n, "problem"))
	}
	return nil
}

func printFinding(w io.Writer, f finding.Finding) {
	level := string(f.Level)
	if f.Level == finding.Failed {
		level = "FAILED"
	}
	fmt.Fprintf(w, "%-8s %-11s %s\n", level, f.Check, plain.Line(f.Line()))
	if f.Hint != "" && f.Level != finding.OK {
		fmt.Fprintf(w, "%-8s %-11s hint: %s\n", "", "", typed(plain.Line(f.Hint)))
	}
}

// facts returns what nodes are given.
func (o *doctorOptions) facts(ctx context.Context, std stdio) (f node.Facts, err error) {
	switch info, statErr := os.Stat(o.from); {
	case o.from == "":
		f, err = o.here(ctx, std)
	case statErr != nil:
		return f, hint.New(fmt.Errorf("--from: %w", statErr), "name a directory of appliance cluster-config, an install-config.yaml or a registries.conf")
	case info.IsDir():
		f, err = o.directory()
	case strings.HasSuffix(o.from, ".conf"):
		f, err = node.ReadRegistries(o.from)
	default:
		f, err = readInstallConfig(o.from)
	}
	if err != nil && o.from != "" {
		return f, fmt.Errorf("--from %s: %w", o.from, err)
	}
	f.Machine = o.machine
	if len(o.releases) > 0 {
		f.Releases = o.releases
	}
	for _, own := range []struct {
		file string
		to   *[]byte
	}{{o.ca, &f.Bundle}, {o.pullSecret, &f.Secret}} {
		if err == nil && own.file != "" {
			*own.to, err = regular.ReadFile(own.file)
		}
	}
	return f, err
}

func readInstallConfig(file string) (node.Facts, error) {
	text, err := regular.ReadFile(file)
	if err != nil {
		return node.Facts{}, regular.Reason(err)
	}
	return node.ReadInstallConfig(text)
}

// directory reads a directory of cluster-config, or another one with an install-config.yaml.
func (o *doctorOptions) directory() (node.Facts, error) {
	f, err := readInstallConfig(filepath.Join(o.from, "install-config.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		err = hint.New(errors.New("there is no install-config.yaml in it"), "openshift-install deletes it: name the directory that appliance cluster-config has written, or a copy of the file")
	}
	if errors.Is(err, fs.ErrPermission) {
		err = hint.New(err, "run it as the owner of "+o.from+": ls -ld "+o.from)
	}
	if err == nil {
		f.Others, err = o.others(f)
	}
	script, scriptErr := regular.ReadFile(filepath.Join(o.from, "install.sh"))
	if err == nil && scriptErr == nil {
		if release := cluster.ReleaseOf(script); release != "" {
			f.Releases = []string{release}
		}
	}
	return f, err
}

// others returns where the other files of a directory differ from its install-config.yaml: install.sh
// gives them to oc.
func (o *doctorOptions) others(f node.Facts) (all []finding.Finding, err error) {
	differs := func(check, subject, text string) {
		all = append(all, finding.Finding{Check: check, Subject: subject, Level: finding.Failed, Text: text, Hint: "make the directory again: appliance cluster-config"})
	}
	secret, err := readOther(o.from, "pull-secret.json")
	if err != nil {
		return nil, err
	}
	for _, registry := range f.Mirrors() {
		theirs, _, _ := cluster.Auth(secret, registry)
		ours, _, _ := cluster.Auth(f.Secret, registry)
		if secret != nil && theirs != ours {
			differs("login", registry, "pull-secret.json, which install.sh uses, has another login than install-config.yaml")
		}
	}
	bundle, err := readOther(o.from, "ca-bundle.pem")
	if err == nil && bundle != nil && !cluster.SameCAs(bundle, f.Bundle) {
		differs("certificate", "ca-bundle.pem", "it, which install.sh uses, has other CAs than install-config.yaml")
	}
	sets, readErr := readOther(o.from, "oc/idms.yaml")
	for _, s := range f.Sources {
		if sets != nil && len(s.Mirrors) > 0 && !cluster.Mirrors(sets, s.Source, s.Mirrors[0]) {
			differs("mirrors", "oc/idms.yaml", "it does not lead from "+s.Source+" to "+s.Mirrors[0]+", as install-config.yaml does")
		}
	}
	// The installation makes a set of its own of install-config.yaml: these need not have that again.
	more, err2 := readOther(o.from, "openshift/idms.yaml")
	for _, registry := range cluster.MirrorRegistries(more) {
		if login, _, _ := cluster.Auth(f.Secret, registry); login == "" && !slices.Contains(f.Mirrors(), registry) {
			differs("mirrors", "openshift/idms.yaml", "it leads to "+registry+", of which install-config.yaml has neither a mirror nor a login")
		}
	}
	return all, errors.Join(err, readErr, err2)
}

// readOther reads a file of a directory, nil if there is none.
func readOther(dir, name string) ([]byte, error) {
	text, err := regular.ReadFile(filepath.Join(dir, name))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, regular.Reason(err))
	}
	return text, nil
}

// here returns what cluster-config of this host's appliance would give to nodes, and the releases that
// the appliance holds.
func (o *doctorOptions) here(ctx context.Context, std stdio) (node.Facts, error) {
	made := clusterConfigOptions{applianceOptions: applianceOptions{locateOptions: o.locateOptions}, first: mirrorFlags{ca: o.ca, pullSecret: o.pullSecret}}
	facts := &cluster.Facts{}
	if err := made.here(facts); err != nil {
		return node.Facts{}, err
	}
	var releases []cluster.Release
	err := made.ask(ctx, std, nil, func(control *client.Client) (err error) {
		releases, err = served(ctx, control, facts)
		return err
	})
	if err != nil {
		return node.Facts{}, err
	}
	return nodeFacts(facts, releases)
}

// nodeFacts returns what the files of cluster-config give to nodes.
func nodeFacts(facts *cluster.Facts, releases []cluster.Release) (node.Facts, error) {
	var known bool
	if facts.Version, known = cluster.Newest(releases); !known {
		facts.Version = cluster.Version{Major: 4, Minor: 20} // any that has imageDigestSources
	}
	rendered, err := cluster.Render(*facts)
	if err != nil {
		return node.Facts{}, err
	}
	var f node.Facts
	for _, file := range rendered.Files {
		if file.Name == "install-config.yaml" {
			if f, err = node.ReadInstallConfig(file.Data); err != nil {
				return f, err
			}
		}
	}
	for _, u := range facts.Upstreams {
		if !u.HeldOnly {
			f.Through = append(f.Through, facts.Registries[0].Address+"/"+u.Prefix)
		}
	}
	f.Registries = []string{facts.Registries[0].Address}
	for _, r := range releases {
		r.Digest = "" // by its tag, which people know
		f.Releases = append(f.Releases, r.Spec(facts.Registries[0].Address))
	}
	return f, nil
}
