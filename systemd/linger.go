package systemd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/godbus/dbus/v5"

	"github.com/mirror-appliance/appliance/internal/hint"
)

const (
	logind = "org.freedesktop.login1"
	polkit = "org.freedesktop.PolicyKit1"
)

// SetLinger sets whether a user's services run while the user is not logged in.
func (m *Manager) SetLinger(ctx context.Context, uid int, on bool) error {
	verb := map[bool]string{true: "enable", false: "disable"}[on]
	return askLogind(ctx, verb, uid, func(conn *dbus.Conn) error {
		// Not interactive: there is no dialog in which a password could be typed.
		return loginManager(conn).CallWithContext(ctx, logind+".Manager.SetUserLinger", 0,
			uint32(uid), on, false).Err
	})
}

// Linger reports whether a user's services run while the user is not logged in. It asks logind: the
// files in /var/lib/systemd/linger have names of users, which for LDAP need a C library.
func (m *Manager) Linger(ctx context.Context, uid int) (lingers bool, err error) {
	err = askLogind(ctx, "query", uid, func(conn *dbus.Conn) error {
		var user dbus.ObjectPath
		err := loginManager(conn).CallWithContext(ctx, logind+".Manager.GetUser", 0,
			uint32(uid)).Store(&user)
		var bus dbus.Error
		if errors.As(err, &bus) && bus.Name == logind+".NoSuchUser" {
			return nil // logind knows the users who linger or are logged in
		}
		if err != nil {
			return err
		}
		return conn.Object(logind, user).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0,
			logind+".User", "Linger").Store(&lingers)
	})
	return lingers, err
}

// MayLinger reports whether polkit lets this process have SetLinger change its own user. What cannot
// be found out counts as allowed: logind decides.
func (m *Manager) MayLinger(ctx context.Context) (allowed bool, err error) {
	err = askLogind(ctx, "query", os.Getuid(), func(conn *dbus.Conn) error {
		subject := struct {
			Kind    string
			Details map[string]dbus.Variant
		}{"system-bus-name", map[string]dbus.Variant{"name": dbus.MakeVariant(conn.Names()[0])}}
		var answer struct {
			Authorized, Challenge bool
			Details               map[string]string
		}
		err := conn.Object(polkit, "/org/freedesktop/PolicyKit1/Authority").CallWithContext(ctx,
			polkit+".Authority.CheckAuthorization", 0, subject, logind+".set-self-linger",
			map[string]string{}, uint32(0), "").Store(&answer)
		allowed = answer.Authorized || err != nil && !noPolkit(err)
		return ctx.Err()
	})
	return allowed, err
}

// noPolkit reports whether an error of the bus means that there is no polkit, without which logind
// lets only root change anything.
func noPolkit(err error) bool {
	var bus dbus.Error
	return errors.As(err, &bus) && slices.Contains([]string{
		"org.freedesktop.DBus.Error.ServiceUnknown", "org.freedesktop.DBus.Error.NameHasNoOwner",
		"org.freedesktop.systemd1.NoSuchUnit", "org.freedesktop.systemd1.UnitMasked",
	}, bus.Name)
}

// askLogind calls f with a connection to the system bus.
func askLogind(ctx context.Context, verb string, uid int, f func(*dbus.Conn) error) error {
	conn, err := systemBus().dial(ctx)
	if err == nil {
		defer conn.Close()
		err = f(conn)
	}
	if err == nil {
		return nil
	}
	return lingerError(verb, uid, err)
}

func lingerError(verb string, uid int, err error) error {
	next := "check that logind runs: systemctl status systemd-logind"
	if refused(err) {
		next = fmt.Sprintf("ask an administrator to run: loginctl %s-linger %d", verb, uid)
	}
	return hint.New(fmt.Errorf("%s lingering of user %d: %w", verb, uid, err), next)
}

func loginManager(conn *dbus.Conn) dbus.BusObject {
	return conn.Object(logind, "/org/freedesktop/login1")
}
