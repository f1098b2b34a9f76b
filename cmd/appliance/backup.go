package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/internal/plain"
	"github.com/mirror-appliance/appliance/registry"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/store/backup"
	"github.com/mirror-appliance/appliance/registry/store/integrity"
)

type backupOptions struct {
	locateOptions
	prune  bool
	rate   int64
	output string
}

func newBackupCommand(std stdio) *cobra.Command {
	var o backupOptions
	c := &cobra.Command{
		Use:   "backup DIRECTORY|FILE.tar",
		Short: "Back up database and layers, while the registry serves",
		Long: `Back up database and layers, while the registry serves: a consistent state, complete or not there at all.
In a directory, layers of the backup before are kept, and new ones are cloned or linked where the file system can,
which takes no space.

The command itself writes it, with the rights of who calls it: anywhere that you can, also to a network share. A
layer that is linked is one file with the registry's, so have a backup on another disk as well. config.yaml
and the CA are not part of it.`,
		Example: "  appliance backup /mnt/nas/appliance\n  appliance backup /media/usb/appliance.tar",
		Args:    onePath("the directory or the .tar file to write"),
		RunE:    func(c *cobra.Command, args []string) error { return runBackup(c.Context(), std, o, args[0]) },
	}
	f := c.Flags()
	o.locateOptions.addFlags(f)
	f.BoolVar(&o.prune, "prune", false, "remove layers of older backups that this one does not need")
	addRateFlag(f, &o.rate, "copy")
	addOutputFlag(f, &o.output)
	return c
}

func onePath(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) == 1 && strings.TrimSpace(args[0]) == "" {
			return usageError(c, fmt.Errorf("the path is empty: %s takes %s", c.CommandPath(), what))
		}
		return takes(1, "one path: "+what)(c, args)
	}
}

func runBackup(ctx context.Context, std stdio, o backupOptions, path string) error {
	path, err := expandPath(path)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	id, err := o.load()
	if err != nil {
		return err
	}
	if err := id.CheckBackup(path); err != nil {
		return err
	}
	o.existing = true
	return withControl(ctx, std, &o.locateOptions, func(control *client.Client) error {
		say := nowAndThen(std.err)
		report, err := registry.Backup(ctx, control, id.Config, id.UID, path, backup.Options{
			Prune: o.prune, BytesPerSecond: o.rate, Log: commandLog(std.err),
			Progress: func(done backup.Report, of integrity.StoreSize) {
				sayBlobs(say, done.Blobs, done.BlobBytes, of)
			},
		})
		if o.output == "json" && (err == nil || errors.As(err, new(*backup.DamagedError))) { // which leaves a report
			return errors.Join(err, printJSON(std.out, report))
		}
		if err != nil {
			return err
		}
		fmt.Fprintf(std.out, "backed up %d blobs (%s) and the database to %s: %d were there, %d linked or cloned, %d copied (%s)\n",
			report.Blobs, bytesOf(report.BlobBytes), path, report.Kept, report.Linked+report.Cloned,
			report.Copied, bytesOf(report.CopiedBytes))
		return nil
	})
}

func sayBlobs(say func(string, ...any), blobs, bytes int64, of integrity.StoreSize) {
	say("%d of %d blobs, %s of %s", blobs, of.Blobs, bytesOf(bytes), bytesOf(of.BlobBytes))
}

type restoreOptions struct {
	locateOptions
	partial bool
	stream  bool
	output  string
}

func newRestoreCommand(std stdio) *cobra.Command {
	var o restoreOptions
	c := &cobra.Command{
		Use:   "restore DIRECTORY|FILE.tar",
		Short: "Bring back what backup wrote, into a store that is empty",
		Long: `Bring back what backup wrote, into a store that is empty, while the registry is stopped: its two directories
exist, since one that does not is taken for unmounted. Every layer is verified; layers that are in the storage already are kept. What is interrupted can be repeated.

A damaged database is moved away first: systemctl stop appliance.socket appliance; mv FILE FILE.damaged`,
		Args: onePath("the directory or the .tar file that backup wrote"),
		RunE: func(c *cobra.Command, args []string) error { return runRestore(c.Context(), std, o, args[0]) },
	}
	f := c.Flags()
	o.locateOptions.addFlags(f)
	f.BoolVar(&o.partial, "partial", false, "restore what is whole in a damaged backup; scrub then fetches the rest again, where it can")
	f.BoolVar(&o.stream, "stream", false, "read the backup as a tar from standard input; the path only names it")
	f.Lookup("stream").Hidden = true
	addOutputFlag(f, &o.output)
	return c
}

func runRestore(ctx context.Context, std stdio, o restoreOptions, from string) error {
	from, err := expandPath(from)
	if err != nil {
		return err
	}
	id, err := o.load()
	if err != nil {
		return err
	}
	if err := id.CheckStore(); err != nil {
		return err
	}
	if os.Geteuid() != id.UID {
		// The store's owner restores. This process reads the backup, which that user may not.
		return backup.Stream(ctx, from, func(in *os.File) error {
			_, err := asOwner(ctx, id, stdio{in: in, out: std.out, err: std.err}, "--stream")
			return err
		})
	}
	say := nowAndThen(std.err)
	options := backup.RestoreOptions{
		Log: commandLog(std.err), Partial: o.partial,
		Progress: func(done backup.RestoreReport, of integrity.StoreSize) {
			sayBlobs(say, done.Blobs, done.BlobBytes, of)
		},
	}
	if o.stream {
		options.From = std.in
	}
	report, err := registry.Restore(ctx, id.Config, from, options)
	if err != nil {
		return ownersOnly(err)
	}
	return show(std.out, o.output, report, func(w io.Writer, r backup.RestoreReport) {
		printRestore(w, from, r)
	})
}

func printRestore(w io.Writer, from string, r backup.RestoreReport) {
	fmt.Fprintf(w, "restored %s (%s) and the database from %s: %d were there, %d copied (%s)\n",
		count(int(r.Blobs-r.Damaged), "blob"), bytesOf(r.BlobBytes-r.DamagedBytes),
		plain.Line(from), r.Kept, r.Copied, bytesOf(r.CopiedBytes))
	for _, d := range r.DamagedBlobs {
		fmt.Fprintf(w, "missing: %s\n", plain.Line(d.String()))
	}
	if more := r.Damaged - int64(len(r.DamagedBlobs)); more > 0 {
		fmt.Fprintf(w, "missing: %d more\n", more)
	}
	fmt.Fprintln(w, "start the registry: systemctl start appliance")
	if r.Damaged > 0 {
		fmt.Fprintln(w, "then fetch what is missing, or see which images need it: appliance scrub")
	}
}
