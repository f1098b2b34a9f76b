package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/mirror-appliance/appliance/registry/admin"
	"github.com/mirror-appliance/appliance/registry/store"
)

type backupOptions struct {
	locateOptions
	prune  bool
	rate   string
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

The service can write to its own directories only. Back up to a directory below the install directory, and copy
it to another machine from there. config.yaml and the CA are not part of it.`,
		Example: "  appliance backup /root/quay-install/backup",
		Args:    onePath("the directory or the .tar file to write"),
		RunE:    func(c *cobra.Command, args []string) error { return runBackup(c.Context(), std, o, args[0]) },
	}
	f := c.Flags()
	o.locateOptions.addFlags(f)
	f.BoolVar(&o.prune, "prune", false, "remove layers of older backups that this one does not need")
	f.StringVar(&o.rate, "rate", "", "copy no faster than this per second, such as 50MB (default: as fast as it goes)")
	addOutputFlag(f, &o.output)
	return c
}

func onePath(what string) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) != 1 {
			return &usageError{err: fmt.Errorf("%s takes one path: %s", c.CommandPath(), what), command: c.CommandPath()}
		}
		return nil
	}
}

func runBackup(ctx context.Context, std stdio, o backupOptions, path string) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	rate, err := parseRate(o.rate)
	if err != nil {
		return err
	}
	if path, err = filepath.Abs(path); err != nil {
		return err
	}
	if err := o.makeRoom(path); err != nil {
		return err
	}
	return withControl(ctx, std, &o.locateOptions, func(client *admin.Client) error {
		request := admin.BackupRequest{Path: path, Prune: o.prune, BytesPerSecond: rate}
		report, err := client.Backup(ctx, request, backupProgress(std.err))
		if err != nil {
			return err
		}
		if o.output == "json" {
			return printJSON(std.out, report)
		}
		fmt.Fprintf(std.out, "backed up %d blobs (%s) and the database to %s: %d were there, %d linked or cloned, %d copied (%s)\n",
			report.Blobs, bytesOf(report.BlobBytes), path, report.Kept, report.Linked+report.Cloned, report.Copied, bytesOf(report.CopiedBytes))
		return nil
	})
}

// makeRoom makes the directory that a backup goes to, for the service's user, where only root can: the install
// directory is root's. Elsewhere the service could not write to it.
func (o *backupOptions) makeRoom(path string) error {
	conf, cfg, err := o.load()
	if err != nil || os.Geteuid() != 0 {
		return err
	}
	dir := path
	if strings.HasSuffix(path, ".tar") {
		dir = filepath.Dir(path)
	}
	root := filepath.Dir(filepath.Dir(conf)) // {quayRoot}/quay-config/config.yaml
	below, err := filepath.Rel(root, dir)
	if err != nil || below == "." || !filepath.IsLocal(below) {
		return nil
	}
	info, err := os.Stat(cfg.Storage)
	if err != nil {
		return fmt.Errorf("find the owner of the store: %w", err)
	}
	owner, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return nil
	}
	made := root
	for part := range strings.SplitSeq(below, string(filepath.Separator)) {
		made = filepath.Join(made, part)
		err := os.Mkdir(made, 0o700)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.Lchown(made, int(owner.Uid), int(owner.Gid)); err != nil {
			return err
		}
	}
	return nil
}

func backupProgress(w io.Writer) func(admin.BackupProgress) {
	last := time.Now()
	return func(p admin.BackupProgress) {
		if time.Since(last) < 2*time.Second {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "%d of %d blobs\n", p.Done.Kept+p.Done.Linked+p.Done.Cloned+p.Done.Copied, p.Of.Blobs)
	}
}

type restoreOptions struct {
	locateOptions
	output string
}

func newRestoreCommand(std stdio) *cobra.Command {
	var o restoreOptions
	c := &cobra.Command{
		Use:   "restore DIRECTORY|FILE.tar",
		Short: "Bring back what backup wrote, into a store that is empty",
		Long: `Bring back what backup wrote, into a store that is empty or absent, while the registry is stopped. Every layer
is verified; layers that are in the storage already are kept. What is interrupted can be repeated.

A damaged database is moved away first: systemctl stop appliance.socket appliance; mv FILE FILE.damaged`,
		Args: onePath("the directory or the .tar file that backup wrote"),
		RunE: func(c *cobra.Command, args []string) error { return runRestore(c.Context(), std, o, args[0]) },
	}
	o.locateOptions.addFlags(c.Flags())
	addOutputFlag(c.Flags(), &o.output)
	return c
}

func runRestore(ctx context.Context, std stdio, o restoreOptions, from string) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	path, cfg, err := o.load()
	if err != nil {
		return err
	}
	if done, err := asOwner(ctx, path, cfg, std); done || err != nil {
		return err
	}
	report, err := store.RestoreWith(ctx, from, store.RestoreOptions{
		Options: store.Options{
			Database: cfg.Database, Storage: cfg.Storage, MinFree: int64(cfg.MinFree), Log: newLog(std.err, "text", false),
		},
		Progress: restoreProgress(std.err),
	})
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(std.out, report)
	}
	fmt.Fprintf(std.out, "restored from %s; start the registry: systemctl start appliance\n", from)
	return nil
}

func restoreProgress(w io.Writer) func(store.RestoreReport, store.StoreSize) {
	last := time.Now()
	return func(done store.RestoreReport, of store.StoreSize) {
		if time.Since(last) < 2*time.Second {
			return
		}
		last = time.Now()
		fmt.Fprintf(w, "%d of %d blobs\n", done.Blobs, of.Blobs)
	}
}
