package registry

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/pgurl"
	"github.com/mirror-appliance/appliance/internal/retry"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/registry/store"
)

// LookAtServers looks at the database in PostgreSQL and at the storage in S3 while no daemon tells of them, and tells of
// each by itself: that one cannot be used is no reason for what the other has. It is for the user who runs the registry:
// PostgreSQL may know that user by its login at this host, and files with secrets are that user's.
func LookAtServers(ctx context.Context, cfg *config.Config, tell finding.Teller) {
	if s3url.Is(cfg.Storage) {
		lookAtStorage(ctx, cfg, tell)
	}
	if cfg.DatabaseServer() != "" {
		lookAtDatabase(ctx, cfg, tell)
	}
}

// NeedsServers reports whether LookAtServers has something to look at.
func NeedsServers(cfg *config.Config) bool {
	return cfg.DatabaseServer() != "" || s3url.Is(cfg.Storage)
}

func lookAtDatabase(ctx context.Context, cfg *config.Config, tell finding.Teller) {
	ctx, cancel := context.WithTimeout(ctx, retry.Silence)
	defer cancel()
	const check = "database"
	name := cfg.DatabaseName()
	err := store.LookAtServer(ctx, cfg.DatabaseServer())
	var empty *store.NotDatabaseError
	switch {
	case err == nil:
		tell.OK(check, name, "PostgreSQL answers, and has the tables of this version")
	case errors.As(err, &empty):
		tell.Warn(check, name, "PostgreSQL answers, and the database has no tables of an appliance: a registry makes them when its start is complete for the first time",
			"if this registry has run before, let `database:` in config.yaml name the database that it had")
	case ctx.Err() != nil:
		tell.Fail(check, name, fmt.Sprintf("no answer within %s", retry.Silence), pgurl.Unreachable)
	default:
		tell.Fail(check, "", err.Error(), hint.Of(err)) // which names it
	}
}

func lookAtStorage(ctx context.Context, cfg *config.Config, tell finding.Teller) {
	ctx, cancel := context.WithTimeout(ctx, retry.Silence)
	defer cancel()
	const check = "storage"
	name := cfg.Storage
	if address, err := s3url.Parse(name); err == nil {
		name = address.String()
	}
	if _, here := os.LookupEnv("AWS_ACCESS_KEY_ID"); cfg.StorageCredentials == "" && !here {
		tell.Warn(check, name, "it is not looked at: its credentials are not in config.yaml, and may be in the environment of the service",
			"see the log of the registry: journalctl -u appliance")
		return
	}
	switch err := store.LookAtBucket(ctx, cfg.Storage, cfg.StorageCredentials); {
	case err == nil:
		tell.OK(check, name, "S3 answers, and takes, returns and removes an object")
	case ctx.Err() != nil:
		tell.Fail(check, name, fmt.Sprintf("no answer within %s", retry.Silence), "look at the storage and at the network between")
	default:
		tell.Fail(check, "", err.Error(), hint.Of(err)) // which names it
	}
}
