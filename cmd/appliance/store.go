package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/installer"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/transfer"
)

func newStoreCommand(std stdio) *cobra.Command {
	c := &cobra.Command{
		Use:   "store",
		Short: "Move the content of the registry to another database or storage",
		Args:  noSuchCommand,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newStoreCopyCommand(std))
	return c
}

type storeCopyOptions struct {
	from, to string
	owner    string // of installer.Identity.Command; it is that of from
	dryRun   bool
	output   string
}

func newStoreCopyCommand(std stdio) *cobra.Command {
	var o storeCopyOptions
	c := &cobra.Command{
		Use:   "copy --from CONFIG --to CONFIG",
		Short: "Copy all content to the empty store of another configuration",
		Long: `Copy all content of the store of one configuration to that of another, whose database and storage are empty:
between SQLite and PostgreSQL, and between files and S3, in each direction. Blobs, images, tags, accounts, secrets, history and
the audit are copied; uploads that are under way are not.

While the registry of --from serves, the blobs are copied, each compared with its digest. The command then ends with exit
code 2. Stop that registry and type the same command again: it copies what has come since, and all rows of the database in one
transaction, compares both sides, and prints what to start. Until then no command opens the store of --to. What was
interrupted goes on with the same command. The store of --from is only read. Where both have one storage, that belongs to the
database of --to from the end on, and a registry with the database of --from does not start any more.`,
		Example: "  appliance store copy --from /etc/appliance/config.yaml --to /etc/appliance/new.yaml",
		Args:    noArguments,
		RunE: func(c *cobra.Command, _ []string) error {
			if o.from == "" || o.to == "" {
				return usageError(c, errors.New("both --from and --to are needed"))
			}
			return runStoreCopy(c.Context(), std, o)
		},
	}
	c.Long += "\n\nExit codes: 0 the store of --to is whole, 1 an error, 2 the blobs are copied, and the registry of --from has to be stopped."
	f := c.Flags()
	pathVar(f, &o.from, "from", "", "config.yaml of the registry that has the content")
	pathVar(f, &o.to, "to", "", "config.yaml of the registry that gets it")
	pathVar(f, &o.owner, "config", "", "")
	f.Lookup("config").Hidden = true
	f.BoolVar(&o.dryRun, "dry-run", false, "say what would be copied and how long the registry would be stopped, and copy nothing")
	addOutputFlag(f, &o.output)
	return c
}

func runStoreCopy(ctx context.Context, std stdio, o storeCopyOptions) error {
	from, err := installer.Locate(installerDeps(), o.from, "")
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	to, err := installer.Locate(installerDeps(), o.to, "")
	if err != nil {
		return fmt.Errorf("--to: %w", err)
	}
	both, err := from.With(to)
	if err != nil {
		return err
	}
	if done, err := asOwner(ctx, both, std, "--from", from.Path, "--to", to.Path); done || err != nil {
		return err
	}
	say := nowAndThen(std.err)
	began := time.Now()
	report, err := transfer.Run(ctx, transfer.Options{
		From: sideOf(from.Path, from.Config), To: sideOf(to.Path, to.Config), DryRun: o.dryRun, Log: commandLog(std.err),
		Progress: func(p transfer.Progress) { sayCopied(say, p, time.Since(began)) },
	})
	if err != nil {
		if o.output == "json" && errors.As(err, new(*transfer.ServingError)) { // which leaves a report
			err = errors.Join(err, printJSON(std.out, report))
		}
		return ownersOnly(err)
	}
	return show(std.out, o.output, report, func(w io.Writer, r transfer.Report) { printStoreCopy(w, from.Path, to.Path, r) })
}

func sideOf(path string, cfg *config.Config) transfer.Side {
	return transfer.Side{Config: path, Database: cmp.Or(cfg.DatabaseServer(), cfg.Database), Storage: cfg.Storage, Credentials: cfg.StorageCredentials, MinFree: int64(cfg.MinFree)}
}

func sayCopied(say func(string, ...any), p transfer.Progress, took time.Duration) {
	if p.Table != "" {
		say("table %s, %d rows so far", p.Table, p.Rows)
		return
	}
	rate := float64(p.BlobBytes) / max(took.Seconds(), 1)
	say("%d of %s, %s of %s, %s a second", p.Blobs, count(int(p.OfBlobs), "blob"), bytesOf(p.BlobBytes), bytesOf(p.OfBlobBytes), bytesOf(int64(rate)))
}

func printStoreCopy(w io.Writer, from, to string, r transfer.Report) {
	from, to = plain.Line(from), plain.Line(to)
	start := hint.Words("mv", from, from+".before") + " && " + hint.Words("cp", "-p", to, from) + " && systemctl start appliance.socket appliance"
	switch {
	case r.DryRun && r.SameStorage:
		fmt.Fprintf(w, "both stores have their blobs in the same place: none would be copied (%s)\n", count(int(r.Blobs), "blob"))
	case r.DryRun:
		fmt.Fprintf(w, "would copy %s of %s (%s), while the registry serves\n", count(int(max(r.Blobs-r.There, 0)), "blob"), count(int(r.Blobs), "blob"), bytesOf(r.BlobBytes))
	case r.SameStorage:
		fmt.Fprintf(w, "no blob was copied: both stores have %s (%s) in the same place\n", count(int(r.Blobs), "blob"), bytesOf(r.BlobBytes))
	default:
		fmt.Fprintf(w, "copied %s (%s), %d were there\n", count(int(r.Copied), "blob"), bytesOf(r.CopiedBytes), r.There)
	}
	if r.DryRun {
		fmt.Fprintf(w, "then, while it is stopped, %s of %s: some %s\n", count(int(r.Rows), "row"), count(len(r.Tables), "table"), (time.Duration(r.GuessSeconds) * time.Second).String())
		return
	}
	fmt.Fprintf(w, "copied %s of %s, which are equal on both sides; the registry had to be stopped for %.1f s of that\n", count(int(r.Rows), "row"), count(len(r.Tables), "table"), r.Seconds)
	fmt.Fprintln(w, "start it with the new configuration: "+start)
	fmt.Fprintln(w, "or, where no service runs it: "+hint.Words("appliance", "serve", "--config", to))
	if r.SameStorage {
		fmt.Fprintln(w, "the storage belongs to the new database now: a registry with the old one does not start any more")
		return
	}
	fmt.Fprintln(w, "do not serve the old store again: what is pushed to it would not be in the new one")
}
