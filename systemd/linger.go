package systemd

import (
	"context"
	"errors"

	"github.com/godbus/dbus/v5"
)

const logind = "org.freedesktop.login1"

// EnableLinger keeps a user's services running while the user is not logged in. Failing is a *LingerError.
func EnableLinger(ctx context.Context, uid int) error { return setLinger(ctx, uid, true, "enable") }

// DisableLinger ends what EnableLinger began.
func DisableLinger(ctx context.Context, uid int) error { return setLinger(ctx, uid, false, "disable") }

func setLinger(ctx context.Context, uid int, enable bool, verb string) error {
	conn, err := systemBus().dial(ctx)
	if err != nil {
		return &LingerError{UID: uid, Verb: verb, Err: err}
	}
	defer conn.Close()
	// Not interactive: nobody is there to type a password into a dialog.
	call := manager(conn).CallWithContext(ctx, logind+".Manager.SetUserLinger", 0, uint32(uid), enable, false)
	if call.Err != nil {
		return &LingerError{UID: uid, Verb: verb, Err: call.Err}
	}
	return nil
}

// Linger says whether a user's services run while the user is not logged in. logind is asked rather than
// /var/lib/systemd/linger, whose files go by name, which a user of LDAP has only through a C library.
func Linger(ctx context.Context, uid int) (bool, error) {
	conn, err := systemBus().dial(ctx)
	if err != nil {
		return false, &LingerError{UID: uid, Verb: "query", Err: err}
	}
	defer conn.Close()
	var user dbus.ObjectPath
	err = manager(conn).CallWithContext(ctx, logind+".Manager.GetUser", 0, uint32(uid)).Store(&user)
	var bus dbus.Error
	if errors.As(err, &bus) && bus.Name == logind+".NoSuchUser" {
		return false, nil // logind holds everybody who lingers or is logged in
	}
	var lingers bool
	if err == nil {
		call := conn.Object(logind, user).CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", 0, logind+".User", "Linger")
		err = call.Store(&lingers)
	}
	if err != nil {
		return false, &LingerError{UID: uid, Verb: "query", Err: err}
	}
	return lingers, nil
}

func manager(conn *dbus.Conn) dbus.BusObject {
	return conn.Object(logind, "/org/freedesktop/login1")
}
