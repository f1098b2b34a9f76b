package main

import (
	"context"
	"log/slog"

	"github.com/mirror-appliance/appliance/internal/busy"
	"github.com/mirror-appliance/appliance/mirror"
	"github.com/mirror-appliance/appliance/mirror/imageset"
	"github.com/mirror-appliance/appliance/registry/config"
)

// mirrorScheduled returns how the daemon reads the sources of an image set, as the command mirror
// reads them with its defaults. Logins are those of the configured file only: a service has no home
// directory whose logins it might mean.
func mirrorScheduled(ctx context.Context, set config.Sync, log *slog.Logger) (mirror.Options, func(), error) {
	o := mirrorOptions{config: set.ImageSet, authFile: set.AuthFile, srcVerify: true, retryTimes: defaultRetryTimes,
		imageTimeout: mirror.DefaultImageTimeout,
		busy:         busy.New(nil, log), signatureOptions: signatureOptions{verification: bestEffort}}
	o.source.none = set.AuthFile == ""
	o.set.config, o.set.err = imageset.LoadEither(set.ImageSet)
	return o.reads(ctx, log)
}
