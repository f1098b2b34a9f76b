package registry

import (
	"context"
	"errors"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/admin/client"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store/backup"
)

// Backup backs the store of cfg up to dest. The daemon behind control, which user uid runs, takes a
// snapshot, and this process copies with the rights of its own user. Of o it sets what cfg says.
func Backup(
	ctx context.Context, control *client.Client, cfg *config.Config, uid int, dest string, o backup.Options,
) (report backup.Report, err error) {
	if err := inFiles(cfg); err != nil {
		return report, err
	}
	o.Database, o.Storage, o.Owner = cfg.Database, cfg.Storage, &uid
	err = control.Backup(ctx, func(ctx context.Context, snapshot string) (err error) {
		o.Snapshot = snapshot
		report, err = backup.Create(ctx, dest, o)
		return err
	})
	return report, err
}

// Restore makes the store of cfg, which is empty, of a backup. Of o it sets what cfg
// says.
func Restore(
	ctx context.Context, cfg *config.Config, from string, o backup.RestoreOptions,
) (backup.RestoreReport, error) {
	if err := inFiles(cfg); err != nil {
		return backup.RestoreReport{}, err
	}
	o.Database, o.Storage, o.MinFree = cfg.Database, cfg.Storage, int64(cfg.MinFree)
	return backup.Restore(ctx, from, o)
}

// inFiles returns an error for a store whose rows are in PostgreSQL or whose blobs are in S3.
func inFiles(cfg *config.Config) error {
	if err := cfg.NeedsFile("a backup or a restore by this command", "stop the appliance, run pg_dump on the database and copy the storage, "+cfg.Storage+
		", in that order; a restore is pg_restore into an empty database, and the storage put back: see appliance docs database"); err != nil {
		return err
	}
	if !s3url.Is(cfg.Storage) {
		return nil
	}
	return hint.New(errors.New("backups of a store with blobs in S3 are not built yet"),
		"stop the daemon, copy "+cfg.Database+", and then the objects of the bucket with the tools of the storage; a restore puts both back")
}
