package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/mirror"
)

// driftError says that an image set and a registry differ, as terraform plan's exit code does.
type driftError struct{ error }

// ExitCode returns the exit code of drift.
func (driftError) ExitCode() int { return 2 }

func newDriftCommand(std stdio) *cobra.Command {
	var o mirrorOptions
	c := &cobra.Command{
		Use:   "drift -c FILE docker://HOST:PORT[/PATH] --workspace file://DIR",
		Short: "Tell how an image set and a registry differ",
		Long: `Tell what an image set asks for that the registry does not have, which tags name another image at their sources
now, and what the runs of the workspace have mirrored and no image set of it asks for any more. Nothing is changed.
With --from file://DIR the sources are those of an archive.

Exit codes: 0 nothing differs, 2 something does, 1 it could not be found out.`,
		Example: "  appliance drift -c imageset.yaml docker://registry.example.com:8443 --workspace file:///data/mirror",
		Args:    takes(1, "one registry, such as docker://registry.example.com:8443"),
		RunE: func(c *cobra.Command, args []string) error {
			if err := o.readCommon(c, std); err != nil {
				return err
			}
			o.loadImageSet(c.Flags())
			return runDrift(c.Context(), std, o, args[0])
		},
	}
	o.addCommon(c.Flags())
	for _, flag := range []string{"config", "workspace", "from", "dest-tls-verify", "dest-cert-dir", "output", "max-nested-paths", "keep-upgrade-paths", "follow-dependencies"} {
		c.Flags().Lookup(flag).Hidden = false
	}
	return c
}

func runDrift(ctx context.Context, std stdio, o mirrorOptions, argument string) error {
	d, err := against(ctx, std, o, argument, mirror.FindDrift)
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
	}
	return nil
}

// against calls f with a run that is not made, and with the registry that it would be made at.
func against[T any](ctx context.Context, std stdio, o mirrorOptions, argument string,
	f func(context.Context, mirror.Options, mirror.Pruner) (T, error)) (result T, err error) {
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
	for _, text := range d.Warnings {
		say("warning: %s", text)
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
	say("%s asked for: %d missing, %d changed (%s to copy); %d no longer asked for", count(d.Asked, "image"),
		len(d.Missing), len(d.Changed), bytesOf(d.Bytes), len(d.Unasked))
}
