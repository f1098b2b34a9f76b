package systemd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// NotifyReady says that the service serves. Without systemd it does nothing, as all of these.
func NotifyReady() error { return notify(daemon.SdNotifyReady) }

// NotifyStopping says that the service is draining.
func NotifyStopping() error { return notify(daemon.SdNotifyStopping) }

// NotifyStatus gives one line for people, which systemctl status shows.
func NotifyStatus(text string) error {
	return notify("STATUS=" + strings.Join(strings.Fields(text), " "))
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog tells systemd that the service lives, twice in the time that the unit grants, as long as alive agrees in
// time. It returns when ctx ends, and at once when no watchdog is set. A service that is not alive is not fed, and
// systemd restarts it; why is left in the status line.
func Watchdog(ctx context.Context, alive func(context.Context) error) error {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		return fmt.Errorf("watchdog: %w", err)
	}
	if limit == 0 {
		return nil
	}
	ticker := time.NewTicker(limit / 2)
	defer ticker.Stop()
	return guard(ctx, limit/2, ticker.C, alive)
}

func guard(ctx context.Context, limit time.Duration, tick <-chan time.Time, alive func(context.Context) error) error {
	ailing := false
	for {
		err := ask(ctx, limit, alive)
		if ctx.Err() != nil {
			return nil // stopping, which is no reason to complain
		}
		if err := tell(err, ailing); err != nil {
			return err
		}
		ailing = err != nil
		select {
		case <-ctx.Done():
			return nil
		case <-tick:
		}
	}
}

// ask is alive with a limit, also for one that agrees but too late.
func ask(ctx context.Context, limit time.Duration, alive func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	if err := alive(ctx); err != nil {
		return err
	}
	return ctx.Err()
}

func tell(problem error, ailing bool) error {
	if problem != nil {
		return NotifyStatus("not alive: " + problem.Error())
	}
	if ailing {
		return errors.Join(notify(daemon.SdNotifyWatchdog), NotifyStatus("alive again"))
	}
	return notify(daemon.SdNotifyWatchdog)
}
