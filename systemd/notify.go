package systemd

import (
	"context"
	"net"
)

// NotifyReady says that the service serves. Without systemd it does nothing, as all of these.
func NotifyReady() error { return nil }

// NotifyStopping says that the service is draining.
func NotifyStopping() error { return nil }

// NotifyStatus gives one line for people, which systemctl status shows.
func NotifyStatus(text string) error { return nil }

// Watchdog tells systemd that the service lives, twice in the time that the unit grants, as long as alive agrees.
// It returns when ctx ends, and at once when no watchdog is set.
func Watchdog(ctx context.Context, alive func(context.Context) error) error { return nil }

// Listeners are the sockets that systemd handed to this process; none when it was not started by a socket.
func Listeners() ([]net.Listener, error) { return nil, nil }
