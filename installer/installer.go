// Package installer puts the appliance on a host and takes it away again.
//
// PlanInstall and PlanUninstall look at the host and return a Plan: an ordered list of idempotent steps,
// which can be shown (a dry run is the same plan, not applied) or applied. PlanInstall runs Preflight
// first and returns every problem at once, each with its remedy, before anything is written. Apply undoes,
// last step first, whatever it did when a step fails or ctx ends, so that an install leaves either a
// registry that answers or nothing. After kill -9 the same request completes what was begun.
//
// Users are not made here, since that needs the daemon's control API: Deps.Seed is called once the daemon
// answers its health check. Nothing is executed through a shell, and no secret is an argument of a process.
//
// Refused: Ansible and its inventory (a static binary and the D-Bus do all of it), and a state file that
// says what is believed to be installed. What is installed is read from the unit, from config.yaml and
// from the file system; quay-config/install.json only records what these cannot tell, namely which
// directories were not there before.
package installer

import (
	"context"
	"fmt"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
)

// Request is what the user asked for. Empty fields are taken from the existing install, if there is one,
// and then from the defaults named here.
type Request struct {
	Hostname      string // DNS name that clusters use, without a port; default: this host's name
	Port          int    // default 8443
	QuayRoot      string // install directory; default ~/quay-install; a leading ~ is expanded
	QuayStorage   string // directory of the blobs; default {QuayRoot}/quay-storage
	SqliteStorage string // directory of the database; default {QuayRoot}/sqlite-storage
	Binary        string // the executable to install, usually os.Executable()
	User          bool   // a user unit of the calling user, not a system unit; usually os.Geteuid() != 0
	InitUser      string // administrator to create; default "init"
	InitPassword  string // its password; generated when empty
	RemoveContent bool   // uninstall only: remove blobs and database as well
}

// Deps is what the installer needs from its caller. The zero value of every field but CheckPassword and
// Seed means the real thing.
type Deps struct {
	Host          *host.Host                                                   // host.Local()
	Connect       func(ctx context.Context, user bool) (ServiceManager, error) // systemd over D-Bus
	Resolver      Resolver                                                     // net.DefaultResolver
	Health        func(ctx context.Context, cfg *config.Config) error          // one HTTPS request, verified with the CA
	CheckName     func(name string) error                                      // auth.CheckName
	CheckPassword func(password string) error                                  // auth.CheckPassword
	Seed          func(ctx context.Context, in Installation) (changed bool, err error)
	Home          string     // home.Dir(); empty if there is none
	Geteuid       func() int // os.Geteuid
}

// Installation is what Seed gets: a daemon that answers, and the users to make.
type Installation struct {
	Config       *config.Config // ControlSocket says where to ask
	QuayRoot     string
	Owner        string // the user whom the daemon runs as; empty: the caller
	InitUser     string
	InitPassword string
	// Generated says that the user did not name a password: where InitUser exists already, keep the
	// password that it has.
	Generated bool
}

// Result is what Apply did.
type Result struct {
	Changed      bool
	Address      string // HOST:PORT; empty for an uninstall
	QuayRoot     string
	CA           string // the file of the CA's certificate; empty if clients know it already
	InitUser     string
	InitPassword string
	// Seeded is what Seed returned. When it is false and the password was generated, then InitPassword is
	// empty: the user existed and has the password that it had.
	Seeded bool
}

// A Step is one idempotent change of the host.
type Step interface {
	// String says what the step does, as an imperative: "write /etc/systemd/system/appliance.service".
	String() string
	// Apply does it, and reports whether anything had to be changed.
	Apply(ctx context.Context) (changed bool, err error)
	// Undo takes back what Apply did, also when Apply failed half way. It does nothing when Apply did
	// nothing.
	Undo(ctx context.Context) error
}

// A Problem is a precondition that does not hold, and what the user can do about it.
type Problem struct {
	What    string // what is wrong, naming the value
	Remedy  string // what to type or change
	Warning bool   // the install can go on
}

func (p Problem) String() string { return p.What + "\n    " + p.Remedy }

func isWarning(p Problem) bool { return p.Warning }

// PreflightError is all the problems that forbid an install. Nothing has been written.
type PreflightError struct{ Problems []Problem }

func (e *PreflightError) Error() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].What
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d things are in the way", len(e.Problems))
	for i, p := range e.Problems {
		fmt.Fprintf(&b, "\n  %d. %s\n     %s", i+1, p.What, p.Remedy)
	}
	return b.String()
}

// Hint is the remedy, when there is one problem; several stand beside their problems in Error.
func (e *PreflightError) Hint() string {
	if len(e.Problems) == 1 {
		return e.Problems[0].Remedy
	}
	return "nothing has been changed; run the same command again when these are solved"
}

// NotInstalledError says that there is nothing to find or to uninstall.
type NotInstalledError struct{ Unit, QuayRoot string }

func (e *NotInstalledError) Error() string {
	if e.QuayRoot == "" {
		return fmt.Sprintf("no appliance is installed here: there is no %s", e.Unit)
	}
	return fmt.Sprintf("no appliance is installed here: there is neither %s nor an install in %s", e.Unit, e.QuayRoot)
}

func (e *NotInstalledError) Hint() string {
	return "name its directory with --quayRoot, or run the command as the user who installed it (root: with sudo)"
}
