package registry

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mirror-appliance/appliance/internal/durable"
)

const (
	// probationLimit bounds the wait for an installer that was killed.
	probationLimit = 2 * time.Minute
	probationEvery = 50 * time.Millisecond
)

// holdWrites has writes wait while the installer's mark is there: if the new version turns out to be
// unhealthy, the database of before comes back, and what was acknowledged meanwhile would be lost.
// Pulls go on. After probationLimit the daemon removes the mark, and with it that way back.
func (d *daemon) holdWrites(ctx context.Context) (wait func() error) {
	mark := d.cfg.UpgradeMark()
	if !exists(mark) {
		return func() error { return nil }
	}
	d.log.Info("writes wait until the upgrade is confirmed")
	release := d.store.Hold(ctx)
	return func() error {
		limit := time.NewTimer(probationLimit)
		defer limit.Stop()
		for exists(mark) {
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(probationEvery):
			case <-limit.C:
				d.log.Warn("the upgrade was not confirmed: writes go on", "limit", probationLimit)
				if err := errors.Join(durable.IgnoreMissing(os.Remove(mark)), durable.SyncDir(filepath.Dir(mark))); err != nil {
					return err
				}
			}
		}
		release()
		return nil
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
