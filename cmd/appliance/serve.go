package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/internal/regular"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

type serveOptions struct {
	locateOptions
	logFormat string
	debug     bool
	noAccess  bool
}

func (o *serveOptions) addFlags(f *pflag.FlagSet) {
	o.locateOptions.addFlags(f)
	f.StringVar(&o.logFormat, "log-format", "text", "text for the journal, or json")
	f.BoolVar(&o.debug, "debug", false, "log more")
	f.BoolVar(&o.noAccess, "no-access-log", false, "do not log each request")
}

func newServeCommand(std stdio) *cobra.Command {
	var o serveOptions
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the registry (the service does this)",
		Long: `Run the registry in the foreground. This is what the installed service does; SIGTERM lets requests
under way finish.`,
		Args: noArguments,
		RunE: func(c *cobra.Command, _ []string) error { return runServe(c.Context(), std, o) },
	}
	o.addFlags(c.Flags())
	return c
}

func runServe(ctx context.Context, std stdio, o serveOptions) error {
	if o.logFormat != "text" && o.logFormat != "json" {
		return hint.New(fmt.Errorf("--log-format %q is not known", o.logFormat), "use text or json")
	}
	id, err := o.load()
	if err != nil {
		return err
	}
	if done, err := asOwner(ctx, id, std); done || err != nil {
		return err
	}
	listeners, err := systemd.Listeners()
	if err != nil {
		return err
	}
	log := newLog(std.err, o.logFormat, o.debug)
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, unix.SIGHUP)
	defer signal.Stop(hangups)
	options := registry.Options{Log: log, Listeners: listeners, Version: version, Mirror: mirrorScheduled,
		Config: func() (*config.Config, error) { return readConfig(id.Path) }, Hangups: hangups}
	if !o.noAccess {
		access, end := registry.NewAccessLog(std.err, o.logFormat, o.logFormat == "json" || !underSystemd())
		defer end() // an error of the log has no place to be told
		options.AccessLog = access
	}
	return registry.Run(ctx, id.Config, options)
}

func readConfig(path string) (*config.Config, error) {
	text, err := regular.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, regular.Reason(err))
	}
	return config.Parse(path, text)
}

// underSystemd reports whether the log goes to the journal, which has a time of its own.
func underSystemd() bool {
	_, ok := os.LookupEnv("JOURNAL_STREAM")
	return ok
}

// newLog returns a log with times, except for the journal, which has its own.
func newLog(w io.Writer, format string, debug bool) *slog.Logger {
	options := &slog.HandlerOptions{Level: slog.LevelInfo, ReplaceAttr: plain.Attr}
	if debug {
		options.Level = slog.LevelDebug
	}
	if format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	if underSystemd() {
		options.ReplaceAttr = withoutTime
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// commandLog is for a command that does a daemon's work: it logs warnings, and prints results.
func commandLog(w io.Writer) *slog.Logger {
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelWarn, ReplaceAttr: withoutTime}))
}

func withoutTime(groups []string, a slog.Attr) slog.Attr {
	if len(groups) == 0 && a.Key == slog.TimeKey {
		return slog.Attr{}
	}
	return plain.Attr(groups, a)
}
