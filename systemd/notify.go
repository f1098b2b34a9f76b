package systemd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// NotifyReady tells systemd that the service serves. Without systemd it does nothing, as the others
// here.
func NotifyReady() error { return notify(daemon.SdNotifyReady) }

// NotifyStopping tells systemd that the service drains.
func NotifyStopping() error { return notify(daemon.SdNotifyStopping) }

// NotifyStatus sets the line that systemctl status shows; "" removes it.
func NotifyStatus(text string) error {
	return notify("STATUS=" + strings.Join(strings.Fields(text), " "))
}

func notify(state string) error {
	if _, err := daemon.SdNotify(false, state); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// Watchdog feeds systemd's watchdog twice within WatchdogSec= as long as alive returns nil in time.
// Otherwise systemd restarts the service, whose status line has the reason. Watchdog returns when
// ctx ends, and at once without WatchdogSec=.
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

func guard(ctx context.Context, limit time.Duration, tick <-chan time.Time,
	alive func(context.Context) error) error {
	ailing := false
	for {
		err := ask(ctx, limit, alive)
		if ctx.Err() != nil {
			return nil
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

// ask calls alive with a time limit. An answer after the limit is an error, too.
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
