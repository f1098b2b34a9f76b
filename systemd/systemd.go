// Package systemd is how the appliance meets the init system: the texts of its units, the manager that starts
// them, and what a started daemon says back (readiness, watchdog, the sockets it was handed).
//
// Everything goes over D-Bus and the notification socket. systemctl and loginctl are not run: their output is for
// people, and a job's result is something only the bus tells. Unit texts are written whole instead of patched, so
// that what is on disk can be compared with what would be written.
package systemd

const (
	// Service is the unit of the daemon; quay-app.service is its alias, the name under which scripts know it.
	Service = "appliance.service"
	// Socket holds the port, so that a restart of the daemon refuses no connection.
	Socket = "appliance.socket"

	// socketName is under which name the socket is handed to the daemon.
	socketName = "https"
)
