// Package systemd holds the appliance's side of the init system: the texts of its units, the
// manager that starts them, and what a started daemon exchanges with it (readiness, watchdog,
// sockets).
//
// Use ServiceUnit and SocketUnit to write the units and Connect to start them; Listeners, Watchdog
// and the Notify functions in the daemon. Refused: running systemctl and loginctl, whose output is
// for people, while a job's result is on the bus only; and patching unit files, since a text
// written as a whole can be compared with the one on disk.
package systemd

const (
	// Service is the unit of the daemon. Its alias, for scripts, is quay-app.service.
	Service = "appliance.service"
	// Socket keeps the port open, so that no connection is refused while the daemon restarts.
	Socket = "appliance.socket"

	// socketName is the FileDescriptorName= of the socket.
	socketName = "https"
)
