package systemd

// ServiceOptions are what differs between one installation's service and another's.
// Every path is absolute and passes CheckPath.
type ServiceOptions struct {
	Binary   string
	Config   string   // config.yaml
	DataDirs []string // directories that the daemon writes to; they exist before it starts
	ReadDirs []string // further directories that it reads, such as where the user's own certificate lies

	UserUnit bool   // for a user's manager: no account of its own, less hardening
	User     string // account of the system service; "" = appliance
	Group    string // "" = User
}

// SocketOptions are what differs between one installation's socket and another's.
type SocketOptions struct {
	Port int // TCP, on all addresses
}

// ServiceUnit is the text of appliance.service.
func ServiceUnit(o ServiceOptions) []byte { return nil }

// SocketUnit is the text of appliance.socket.
func SocketUnit(o SocketOptions) []byte { return nil }

// CheckPath refuses a path that no unit file can hold.
func CheckPath(path string) error { return nil }

// UnitDir is where an administrator (or, with user, a user) puts units.
func UnitDir(user bool) (string, error) { return "", nil }
