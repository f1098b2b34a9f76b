package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/blang/semver/v4"
	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/catalog"
	"github.com/mirror-appliance/appliance/mirror/updategraph"
	"github.com/mirror-appliance/appliance/registry/admin/api"
	"github.com/mirror-appliance/appliance/registry/admin/client"
)

// driftError says that an image set and a registry differ, as terraform plan's exit code does.
type driftError struct{ error }

// ExitCode returns the exit code of drift.
func (driftError) ExitCode() int { return 2 }

// undecidedError says that nothing differs as far as that is known.
type undecidedError struct{ error }

// ExitCode returns the exit code of a drift of which not all is known.
func (undecidedError) ExitCode() int { return 3 }

type driftOptions struct {
	mirrorOptions
	offline bool
	decided bool // the flag was given: whether the appliance is offline does not count
}

func newDriftCommand(std stdio) *cobra.Command {
	var o driftOptions
	c := &cobra.Command{
		Use:   "drift -c FILE docker://HOST:PORT[/PATH] --workspace file://DIR",
		Short: "Tell how an image set and a registry differ",
		Long: `Tell what an image set asks for that the registry does not have, which tags name another image at their sources
now, and what the runs of the workspace have mirrored and no image set of it asks for any more. Nothing is changed.
With --from file://DIR the sources are those of an archive.

Without internet, an appliance is compared by what it has itself: the origins that runs recorded, graph data, catalogs.
What these do not decide is listed with its reason. That is so with --offline, and by itself at an appliance that is
switched offline (appliance offline on), unless with --offline=false. The login is to be that of a user of role admin.

Exit codes: 0 nothing differs; 2 something does; 3 nothing does as far as that could be decided without internet, and
not all could be; 1 it could not be found out.`,
		Example: `  appliance drift -c imageset.yaml docker://registry.example.com:8443 --workspace file:///data/mirror
  appliance drift --offline -o json -c imageset.yaml docker://registry.example.com:8443 --workspace file:///data/mirror`,
		Args: takes(1, "one registry, such as docker://registry.example.com:8443"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			o.loadImageSet(c.Flags())
			o.decided = c.Flags().Changed("offline")
			return runDrift(c.Context(), std, o, args[0])
		},
	}
	o.addCommon(c.Flags())
	c.Flags().BoolVar(&o.offline, "offline", false, "ask no source, and compare with what the appliance knows")
	for _, flag := range []string{"config", "workspace", "from", "dest-tls-verify", "dest-cert-dir", "output", "max-nested-paths", "keep-upgrade-paths", "follow-dependencies"} {
		c.Flags().Lookup(flag).Hidden = false
	}
	return c
}

func runDrift(ctx context.Context, std stdio, o driftOptions, argument string) error {
	if o.offline && len(o.from) > 0 {
		return hint.New(errors.New("--offline and --from cannot be used together"), "--from needs no internet: the sources are in the archive")
	}
	d, err := against(ctx, std, o.mirrorOptions, argument, o.find)
	if err != nil {
		return err
	}
	if err := show(std.out, o.output, d, printDrift); err != nil {
		return err
	}
	switch {
	case len(d.Failed) > 0:
		return fmt.Errorf("%s of the image set cannot be planned, so that not all is known: %s", count(len(d.Failed), "image"), d.Failed[0].Image.Origin)
	case d.Differs():
		return driftError{fmt.Errorf("they differ: %d missing, %d changed, %d no longer asked for", len(d.Missing), len(d.Changed), len(d.Unasked))}
	case len(d.Undecided) > 0:
		return hint.New(undecidedError{fmt.Errorf("nothing differs as far as it could be decided, and %s could not be", count(len(d.Undecided), "item"))},
			"compare the rest where there is internet, or with the archive that was imported: --from file://DIR")
	}
	return nil
}

// find finds the drift with the sources, or without.
func (o *driftOptions) find(ctx context.Context, run mirror.Options, at *pruner) (*mirror.Drift, error) {
	if o.decided && !o.offline || len(o.from) > 0 {
		return mirror.FindDrift(ctx, run, at)
	}
	control, err := at.control(ctx)
	if err != nil {
		if o.offline {
			return nil, hint.New(fmt.Errorf("--offline: %w", err), "it compares with what an appliance knows, as a user of role admin")
		}
		return mirror.FindDrift(ctx, run, at) // another registry, or a user that may push
	}
	defer control.Close()
	if !o.offline {
		if state, err := control.Offline(ctx); err != nil || !state.Offline {
			return mirror.FindDrift(ctx, run, at)
		}
	}
	recorded, err := control.Origins(ctx)
	if err != nil {
		return nil, err
	}
	return mirror.FindDriftOffline(ctx, run, at, mirror.Held{
		Origins: origins(recorded),
		Catalog: func(at mirror.Place) (*catalog.Content, error) { return readHeld(ctx, control, at) },
		Channel: func(ctx context.Context, name, arch string) (mirror.HeldChannel, error) {
			return heldChannel(ctx, control, name, arch)
		},
	})
}

// heldChannel asks an appliance what its graph data has of a channel.
func heldChannel(ctx context.Context, control *client.Client, name, arch string) (held mirror.HeldChannel, err error) {
	all, err := control.Updates(ctx, api.UpdatesRequest{Channel: name, Arch: arch})
	if err != nil || all.Why != "" {
		return mirror.HeldChannel{Why: all.Why}, err
	}
	for _, text := range all.Listed {
		v, err := semver.Parse(text)
		if err != nil {
			return held, fmt.Errorf("the graph data of the appliance: version %q: %w", text, err)
		}
		held.Listed = append(held.Listed, v)
	}
	held.Graph, err = updategraph.Parse(name, arch, all.Graph)
	return held, err
}

// against calls f with a run that is not made, and with the registry that it would be made at.
func against[T any](ctx context.Context, std stdio, o mirrorOptions, argument string,
	f func(context.Context, mirror.Options, *pruner) (T, error)) (result T, err error) {
	if !strings.HasPrefix(argument, "docker://") {
		return result, hint.New(fmt.Errorf("%q is not a registry", argument), "docker://HOST:PORT")
	}
	if err := o.check(argument); err != nil {
		return result, err
	}
	log := slog.New(slog.NewTextHandler(std.err, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: plain.Attr}))
	o.busy, o.log = busy.New(nil, log), log
	keys, err := o.destination.keychain(o.authFile)
	if err != nil {
		return result, err
	}
	run, done, err := o.reads(ctx, log)
	if err != nil {
		return result, err
	}
	defer done()
	run.Workspace = o.workspaceDir()
	end, err := o.connect(ctx, argument, keys, &run, newProgress(stdio{in: std.in, out: io.Discard, err: io.Discard}, false, false))
	if err != nil {
		return result, err
	}
	defer func() { err = errors.Join(err, end()) }()
	at, _, err := o.pruner(ctx, run.Registry, run.Prefix, keys, log)
	if err != nil {
		return result, err
	}
	defer at.registries.Close()
	run.Held = at.Manifest
	_, forget, err := o.goOn(ctx, argument, keys, &run) // what version 1 remembers is a part of what is asked for
	defer forget()
	if err != nil {
		return result, err
	}
	run.Prune = nil
	return f(ctx, run, at)
}

func printDrift(w io.Writer, d *mirror.Drift) {
	say := func(format string, args ...any) { fmt.Fprintln(w, plain.Line(fmt.Sprintf(format, args...))) }
	if d.Offline {
		say("offline: no source was asked")
	}
	for _, text := range d.Warnings {
		say("warning: %s", text)
	}
	for _, u := range d.Undecided {
		say("undecided: %s: %s", u.Item, u.Reason)
	}
	for _, f := range d.Failed {
		say("failed: %s: %s", f.Image.Origin, f.Error)
	}
	for _, i := range d.Missing {
		say("missing: %s, %s", i.Destination, i.Origin)
	}
	for _, i := range d.Changed {
		say("changed: %s, %s is %s and was %s", i.Destination, i.Origin, i.Digest, i.Was)
	}
	for _, i := range d.Unasked {
		say("no longer asked for: %s, %s", i.Destination, i.Origin)
	}
	if d.Offline {
		say("%s asked for: %d missing, %d changed; %d no longer asked for; %d undecided", count(d.Asked, "image"),
			len(d.Missing), len(d.Changed), len(d.Unasked), len(d.Undecided))
		return
	}
	say("%s asked for: %d missing, %d changed (%s to copy); %d no longer asked for", count(d.Asked, "image"),
		len(d.Missing), len(d.Changed), bytesOf(d.Bytes), len(d.Unasked))
}
