package registry

import (
	"context"
	"fmt"
	"time"

	"github.com/mirror-appliance/appliance/internal/hint"
)

const (
	// clockOff is how far the clock of this host may be off that of the database, which the hosts of the
	// other daemons are compared with as well: two of them then accept each other's tokens.
	clockOff   = 10 * time.Second
	clockEvery = time.Hour
)

// checkClock returns an error when the clock of this host differs from that of the database. A database
// that does not answer is for others to report.
func (d *daemon) checkClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, checkLimit)
	defer cancel()
	ahead, err := d.store.Clock(ctx)
	if err != nil || ahead.Abs() <= clockOff {
		return nil
	}
	how := "behind"
	if ahead < 0 {
		how = "ahead of"
	}
	return hint.New(fmt.Errorf("the clock of this host is %s %s that of the database's server: daemons refuse each other's tokens when their clocks differ by 30s", ahead.Abs().Round(time.Second), how),
		"let both hosts, and those of the other daemons, keep the same time: timedatectl and chronyc tracking show whether they do")
}

// watchClock logs what checkClock finds, at the start and then hourly.
func (d *daemon) watchClock(ctx context.Context) error {
	if !d.store.Several() {
		return nil
	}
	return every(ctx, 0, clockEvery, func() {
		if err := d.checkClock(ctx); err != nil {
			d.log.WarnContext(ctx, "the clock is wrong", "error", err, "hint", hint.Of(err))
		}
	})
}
