package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/durable"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
)

type upstreamOptions struct {
	askOptions
	entry  config.Upstream
	mode   string
	rate   int64
	image  string
	dryRun bool
}

func newUpstreamCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "upstream",
		Short: "Registries that are pulled through",
		Long: `Registries that the registry on this host pulls through: upstreams in config.yaml. Changes of that list are in force
at once, without a restart.`,
		Args: noSuchCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newUpstreamListCommand(std), newUpstreamTestCommand(std), newUpstreamAddCommand(std),
		newUpstreamRemoveCommand(std), newUpstreamReloadCommand(std))
	return c
}

func newUpstreamListCommand(std stdio) *cobra.Command {
	var o upstreamOptions
	c := &cobra.Command{
		Use: "list", Short: "List the upstreams that are in force", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			_, err := askDaemon(c.Context(), std, &o.askOptions, func(control *client.Client) ([]api.Upstream, error) {
				return control.Upstreams(c.Context())
			}, printUpstreams)
			return err
		},
	}
	o.addFlags(c.Flags())
	return c
}

func newUpstreamTestCommand(std stdio) *cobra.Command {
	var o upstreamOptions
	c := &cobra.Command{
		Use:   "test [PREFIX...] [--image REPOSITORY:TAG]",
		Short: "Have the registry ask its upstreams, and print what is wrong",
		Long: `Have the registry on this host, with its rights, proxy and logins, ask its upstreams: all, or those of some prefixes.
It makes a new connection and logs in; with --image it asks for that image too, named as it is pulled from this registry.

Exit codes: 0 all answer, 1 one does not.`,
		Example: "  appliance upstream test --image quay.io/openshift-release-dev/ocp-release:4.20.3-x86_64",
		RunE:    func(c *cobra.Command, args []string) error { return runUpstreamTest(c.Context(), std, o, args) },
	}
	o.addFlags(c.Flags())
	c.Flags().StringVar(&o.image, "image", "", "ask for this image, without the host of this registry")
	return c
}

func newUpstreamAddCommand(std stdio) *cobra.Command {
	var o upstreamOptions
	c := &cobra.Command{
		Use:   "add PREFIX URL | add HOST",
		Short: "Add an upstream to config.yaml, and have it in force",
		Long: `Add an upstream to config.yaml: what is pulled below PREFIX comes from URL; with a host alone, such as quay.io, what is
pulled below its name comes from there. The rest of the file stays as it is written. The registry takes it at once if it
runs.`,
		Example: `  appliance upstream add quay.io --authfile /root/quay-install/quay-config/pull-secret.json
  appliance upstream add openshift/release https://quay.io/openshift-release-dev/ocp-v4.0-art-dev`,
		Args: cobra.RangeArgs(1, 2),
		RunE: func(c *cobra.Command, args []string) error { return runUpstreamAdd(c.Context(), std, o, args) },
	}
	o.locateOptions.addFlags(c.Flags())
	o.addEntryFlags(c.Flags())
	addDryRunFlag(c.Flags(), &o.dryRun)
	return c
}

func newUpstreamRemoveCommand(std stdio) *cobra.Command {
	var o upstreamOptions
	c := &cobra.Command{
		Use: "remove PREFIX", Short: "Take an upstream out of config.yaml; what it has brought stays",
		Args: takes(1, "the prefix of an upstream, such as quay.io"),
		RunE: func(c *cobra.Command, args []string) error {
			return o.edit(c.Context(), std, func(file string, text []byte) ([]byte, error) {
				next, err := config.RemoveUpstream(file, text, args[0])
				if err != nil && o.inForce(c.Context(), args[0]) { // the command was killed after it had changed the file
					return text, nil
				}
				return next, err
			})
		},
	}
	o.locateOptions.addFlags(c.Flags())
	addDryRunFlag(c.Flags(), &o.dryRun)
	return c
}

func newUpstreamReloadCommand(std stdio) *cobra.Command {
	var o upstreamOptions
	c := &cobra.Command{
		Use: "reload", Short: "Have the registry read the upstreams of config.yaml again", Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			return withDaemon(c.Context(), &o.locateOptions, func(control *client.Client) error { return control.Reload(c.Context()) })
		},
	}
	o.locateOptions.addFlags(c.Flags())
	return c
}

func addDryRunFlag(f *pflag.FlagSet, dryRun *bool) {
	f.BoolVar(dryRun, "dry-run", false, "print what config.yaml would be, and change nothing")
}

func (o *upstreamOptions) addEntryFlags(f *pflag.FlagSet) {
	pathVar(f, &o.entry.AuthFile, "authfile", "", "logins for it, as podman login writes them; the service must be able to read the file")
	pathVar(f, &o.entry.CA, "ca", "", "PEM file of CAs to trust for it")
	pathVar(f, &o.entry.CertDir, "cert-dir", "", "directory with *.crt, and *.cert with *.key, as podman's --cert-dir")
	f.StringVar(&o.entry.Proxy, "proxy", "", "proxy to reach it by, such as http://proxy.example.com:3128, or none (default that of the service's environment)")
	f.DurationVar(&o.entry.Freshness, "freshness", config.DefaultFreshness, "for how long a tag is served without asking again")
	f.StringVar(&o.mode, "mode", "", "cache, mirrored-only or off (default cache)")
	f.IntVar(&o.entry.Concurrency, "concurrency", 0, "layers fetched at a time (default 32)")
	addRateFlag(f, &o.rate, "fetch layers")
	addPatternsFlag(f, "allow", &o.entry.Allow, "fetch only these repositories of it: org/image, or org/* for all below; may be repeated (default all)")
	addPatternsFlag(f, "deny", &o.entry.Deny, "do not fetch these repositories of it; may be repeated")
	f.StringSliceVar(&o.entry.Platforms, "platforms", nil, "have a pin fetch these platforms of an image, such as linux/amd64; may be repeated (default all)")
}

func printUpstreams(w io.Writer, all []api.Upstream) {
	if len(all) == 0 {
		fmt.Fprintln(w, "nothing is pulled through: appliance upstream add")
		return
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "PREFIX\tURL\tMODE\tLOGIN\tFRESHNESS\tSTATE")
	for _, u := range all {
		login := "no"
		if u.Login {
			login = "yes"
		}
		fmt.Fprintln(t, plain.Line(u.Prefix)+"\t"+plain.Line(u.URL)+"\t"+u.Mode+"\t"+login+"\t"+time.Duration(u.Freshness).String()+"\t"+string(u.State))
	}
	_ = t.Flush() // w keeps an error, see output
	for _, u := range all {
		if u.Trouble != "" {
			printTrouble(w, api.Trouble{Problem: u.Trouble, Hint: u.Hint})
		}
	}
}

func runUpstreamTest(ctx context.Context, std stdio, o upstreamOptions, prefixes []string) error {
	if o.image != "" && len(prefixes) > 0 {
		return hint.New(errors.New("--image names the upstream already"), "leave the prefixes out")
	}
	all, err := askDaemon(ctx, std, &o.askOptions, func(control *client.Client) ([]api.UpstreamTested, error) {
		return control.TestUpstreams(ctx, api.UpstreamTest{Prefixes: prefixes, Image: o.image})
	}, printTested)
	if err != nil {
		return err
	}
	failed := 0
	for _, t := range all {
		if t.Error != "" {
			failed++
		}
	}
	if failed > 0 {
		verb := "do not answer as they should"
		if failed == 1 {
			verb = "does not answer as it should"
		}
		return fmt.Errorf("%d of %s %s", failed, count(len(all), "upstream"), verb)
	}
	return nil
}

func printTested(w io.Writer, all []api.UpstreamTested) {
	for _, t := range all {
		if t.Error == "" {
			fmt.Fprintln(w, plain.Line(fmt.Sprintf("%s: %s answers (%s, %s)", t.Prefix, t.URL, t.Asked, time.Duration(t.Took))))
			continue
		}
		fmt.Fprintln(w, plain.Line(t.Prefix+": "+t.Error))
		if t.Hint != "" {
			fmt.Fprintln(w, "hint:", plain.Line(t.Hint))
		}
	}
	if len(all) == 0 {
		fmt.Fprintln(w, "there is no upstream: appliance upstream add")
	}
}

func runUpstreamAdd(ctx context.Context, std stdio, o upstreamOptions, args []string) error {
	o.entry.Mode, o.entry.Rate = config.Mode(o.mode), config.Size(o.rate)
	if len(args) == 2 {
		o.entry.Prefix, o.entry.URL = args[0], args[1]
	} else {
		o.entry.Hosts = []string{strings.TrimSuffix(strings.TrimPrefix(args[0], "https://"), "/")}
	}
	for _, p := range []*string{&o.entry.AuthFile, &o.entry.CA, &o.entry.CertDir} {
		if *p == "" {
			continue
		}
		at, err := filepath.Abs(*p)
		if err == nil {
			_, err = os.Stat(at)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", *p, regular.Reason(err))
		}
		*p = at
	}
	return o.edit(ctx, std, func(file string, text []byte) ([]byte, error) { return config.AddUpstream(file, text, o.entry) }, o.entry)
}

// edit changes config.yaml, and has the daemon take it if it runs. The file is as it was before if the
// daemon refuses it, or cannot use a file of an upstream that was added.
func (o *upstreamOptions) edit(ctx context.Context, std stdio, change func(file string, text []byte) ([]byte, error), added ...config.Upstream) error {
	id, err := o.load()
	if err != nil {
		return err
	}
	if !o.dryRun {
		alone, err := lockConfig(ctx, id.Path)
		if err != nil {
			return err
		}
		defer alone.Close()
	}
	text, err := regular.ReadFile(id.Path)
	if err != nil {
		return fmt.Errorf("read %s: %w", id.Path, regular.Reason(err))
	}
	next, err := change(id.Path, text)
	if err != nil {
		return err
	}
	for _, u := range added {
		if err := id.CheckFiles(installerDeps(), u); err != nil {
			return fmt.Errorf("%s is not changed: %w", id.Path, err)
		}
	}
	if o.dryRun {
		_, err := std.out.Write(next)
		return err
	}
	if err := replaceAlike(id.Path, next); err != nil {
		return err
	}
	running, err := o.enforce(ctx, id.Path, added)
	if err != nil {
		return o.putBack(ctx, id.Path, text, err)
	}
	if bytes.Equal(next, text) {
		fmt.Fprintln(std.out, id.Path, "is so already")
	} else {
		fmt.Fprintln(std.out, id.Path, "is changed")
	}
	if !running {
		fmt.Fprintln(std.out, "the registry does not run: it reads the file when it starts")
		return nil
	}
	fmt.Fprintln(std.out, "the registry has it in force; appliance upstream test asks it")
	return nil
}

// inForce reports whether the daemon runs, and pulls through below a prefix.
func (o *upstreamOptions) inForce(ctx context.Context, prefix string) (is bool) {
	err := withDaemon(ctx, &o.locateOptions, func(control *client.Client) error {
		all, err := control.Upstreams(ctx)
		is = slices.ContainsFunc(all, func(u api.Upstream) bool { return u.Prefix == prefix })
		return err
	})
	return err == nil && is
}

// enforce has the daemon read the file, and returns its error about what was added. Without a daemon the
// files of that are read with the rights of the user.
func (o *upstreamOptions) enforce(ctx context.Context, path string, added []config.Upstream) (running bool, err error) {
	err = withDaemon(ctx, &o.locateOptions, func(control *client.Client) error {
		if err := control.Reload(ctx); err != nil || len(added) == 0 {
			return err
		}
		all, err := control.Upstreams(ctx)
		if err != nil {
			return err
		}
		return refusedFile(all, added, path)
	})
	if !errors.Is(err, client.ErrNotRunning) {
		return true, err
	}
	for _, u := range added {
		if err := registry.CheckUpstream(u); err != nil {
			return false, err
		}
	}
	return false, nil
}

// refusedFile returns the error of a file of an added upstream that the daemon, which has all in force,
// cannot use. path is that of config.yaml.
func refusedFile(all []api.Upstream, added []config.Upstream, path string) error {
	for _, u := range all {
		i := slices.IndexFunc(added, func(a config.Upstream) bool { return a.Prefix == u.Prefix || slices.Contains(a.Hosts, u.Prefix) })
		if i < 0 || u.Trouble == "" || u.State == api.UpstreamNoAnswer {
			continue
		}
		if registry.CheckUpstream(added[i]) == nil { // for this user
			u.Hint = "the service cannot read what this user can: put it into " + filepath.Dir(path) + ", and give it to the group of the service (chown root:appliance, chmod 640)"
		}
		return hint.New(errors.New(u.Trouble), u.Hint)
	}
	return nil
}

// putBack undoes a change of config.yaml that is refused.
func (o *upstreamOptions) putBack(ctx context.Context, path string, text []byte, refused error) error {
	if err := replaceAlike(path, text); err != nil {
		return errors.Join(refused, fmt.Errorf("%s could not be put back: %w", path, err))
	}
	ctx = context.WithoutCancel(ctx)
	err := withDaemon(ctx, &o.locateOptions, func(control *client.Client) error { return control.Reload(ctx) })
	if err != nil && !errors.Is(err, client.ErrNotRunning) {
		return errors.Join(refused, err)
	}
	return fmt.Errorf("%s is not changed: %w", path, refused)
}

// lockConfig waits until no other command changes the file, which each replaces, by a lock of its
// directory.
func lockConfig(ctx context.Context, path string) (*os.File, error) {
	dir, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	for {
		err := durable.Lock(dir, durable.Exclusive)
		if errors.Is(err, durable.ErrLocked) {
			if err = retry.Sleep(ctx, 50*time.Millisecond); err == nil {
				continue
			}
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("wait for another command to change %s: %w", path, err), dir.Close())
		}
		return dir, nil
	}
}

// replaceAlike replaces a file by one with the same owner and mode.
func replaceAlike(path string, data []byte) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*.tmp")
	if err != nil {
		return hint.New(fmt.Errorf("write %s: %w", path, regular.Reason(err)), "run it as the owner of the configuration: sudo")
	}
	var was unix.Stat_t
	err = unix.Stat(path, &was)
	if err == nil {
		err = tmp.Chmod(info.Mode().Perm())
	}
	if err == nil && (int(was.Uid) != os.Getuid() || int(was.Gid) != os.Getgid()) {
		err = tmp.Chown(int(was.Uid), int(was.Gid))
	}
	if err != nil {
		return errors.Join(fmt.Errorf("write %s: %w", path, err), tmp.Close(), os.Remove(tmp.Name()))
	}
	if err := durable.Replace(path, tmp, data); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
