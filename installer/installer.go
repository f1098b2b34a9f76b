// Package installer puts the appliance on a host and takes it away again.
//
// Use PlanInstall, PlanPrepare and PlanUninstall to get a Plan, which can be shown or applied. A
// plan has three parts: facts, what is on the host (facts*.go, certificates.go); wanted, what the
// request and the facts lead to; and the steps between them, idempotent values of ansible-free/host
// and of this package. Checks judge the facts, and their problems are shown together, each with its
// remedy.
//
// Apply writes to a journal on disk what each step is about to change. When a step fails or ctx
// ends, the journal is undone. The next install goes on with the journal of one that was killed,
// and undoes that too if it fails. A complete install is recorded in quay-config/install.json, step
// by step; an uninstall undoes the record.
//
// A Request and a Result are plain values and progress goes through a function, so that the same
// program can run over SSH. Nothing is executed through a shell, and no secret is an argument of a
// process.
//
// Refused: Ansible and its inventory, since a static binary and D-Bus do all of it; a record that
// is trusted for what the host shows as well, such as the installed program and its directory.
package installer

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
)

// Request is what the user asks for, a plain value. Empty fields are taken from the existing
// install, if there is one, and then from the defaults named here.
type Request struct {
	Hostname      string // DNS name that clusters use, without a port; default: Target
	Target        string // by which name the user reaches this host; default: this host's name
	Port          int    // default 8443
	QuayRoot      string // install directory; default ~/quay-install; a leading ~ is expanded
	QuayStorage   string // directory of the blobs; default {QuayRoot}/quay-storage
	SqliteStorage string // directory of the database; default {QuayRoot}/sqlite-storage
	Binary        string // the executable to install, usually os.Executable()
	User          bool   // a unit of the calling user, not a system unit; usually os.Geteuid() != 0
	InitUser      string // administrator to create; default "init"
	InitPassword  string // its password; generated when empty
	RemoveContent bool   // uninstall only: remove blobs and database as well
	Upgrade       bool   // of what is installed; set by PlanUpgrade
	OpenFirewall  bool   // open the port in firewalld, where that runs and keeps it closed

	// SSLCert and SSLKey are files with the user's own certificate and key, which are copied; empty:
	// the certificate stays as it is, or is made. SSLCheckSkip accepts one for another hostname.
	SSLCert, SSLKey string
	SSLCheckSkip    bool

	TakeOver *TakeOver // of a mirror-registry, in whose place the appliance is installed; nil: there is none

	rollback bool
}

// Deps is what the installer needs from its caller: Version and Schema. The zero value of the others means the
// real thing; tests replace it.
type Deps struct {
	Host     *host.Host               // host.Local()
	Resolver resolver                 // net.DefaultResolver
	Version  string                   // of this program, for the record
	Schema   int                      // of the databases that this program knows
	Home     string                   // home.Dir(); empty if there is none
	Geteuid  func() int               // os.Geteuid
	Built    time.Time                // of this program, which no clock is before; zero: not known
	Clock    clock                    // readClock
	Statfs   statfs                   // unix.Statfs
	Label    func(path string) string // of SELinux, labelOf

	// Connect connects to systemd, of the calling user or the system; connectSystemd.
	Connect func(ctx context.Context, user bool) (serviceManager, error)
	// Health returns an error unless the daemon is healthy; checkHealth.
	Health func(ctx context.Context, cfg *config.Config) error
	// Reach is Health by the hostname, as clients ask; reach.
	Reach func(ctx context.Context, cfg *config.Config) error
	// LookAtServer looks at the database in PostgreSQL of the configuration in a file, as the user whose
	// store it is. It changes nothing.
	LookAtServer func(ctx context.Context, conf string) (Server, error)
	// Show tells the user the result of an install, a new password for one; nil: the
	// caller of Apply does. A run that is killed before it returns, or for which it returns
	// an error, is followed by one that sets the password anew.
	Show func(Result) error
	// Seed makes the first users; seedUsers.
	Seed func(ctx context.Context, in Installation) (seeding, error)
	// Foresee returns what Seed would do; foreseeUsers.
	Foresee func(ctx context.Context, in Installation) (seeding, error)
	// Login reports whether the daemon accepts the auth of a pull secret; CheckAuth.
	Login func(ctx context.Context, cfg *config.Config, auth string) (bool, error)
	// Renames reports whether a rename leads from one directory to another; nil: the file systems tell.
	Renames func(from, to string) bool
	// Adopt imports what a mirror-registry has, into a daemon that answers; takeOverQuay.
	Adopt func(ctx context.Context, in Installation, t *TakeOver) error
}

// Installation is a daemon that answers, and the users to make.
type Installation struct {
	Config       *config.Config // ControlSocket says where to ask
	QuayRoot     string
	Owner        string // the user whom the daemon runs as; empty: the caller
	InitUser     string
	InitPassword string
	// Named says that the user did name InitUser: it is made beside other administrators.
	Named bool
	// Adopted says that a user puller may be a mirror-registry's, which keeps its password.
	Adopted bool
	// Generated says that the user did not name a password: an existing InitUser keeps its own,
	// unless no run has shown it.
	Generated bool
}

// Result is what Apply did, a plain value.
type Result struct {
	Changed      bool
	Address      string // HOST:PORT; empty for an uninstall
	QuayRoot     string
	CA           string // the file of the CA's certificate; empty if clients know it already
	InitUser     string
	InitPassword string
	// Seeded says that the password of InitUser is new. If it is false and the password was
	// generated, then InitPassword is empty: the user exists and keeps its password.
	Seeded bool
	// PullerRole is the role of a user puller that may do more than pull; empty: it may not.
	PullerRole string
}

// A Problem is a precondition that does not hold, and its remedy.
type Problem struct {
	What    string // what is wrong, naming the value
	Remedy  string // what to type or change
	Warning bool   // the install can go on
}

func (p Problem) String() string { return p.What + "\n    " + p.Remedy }

// PreflightError has all problems that forbid an install. Nothing has been written.
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
