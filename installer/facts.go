package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/installer/adopt"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

const (
	serviceUser  = "appliance"
	sysusersFile = "/etc/sysusers.d/appliance.conf"
	databaseName = "appliance.db"
)

// site is a host, and a request that is about it: what is there, what is wanted, and what is in the
// way.
type site struct {
	Deps
	Request
	facts
	machine
	network
	dirs  places
	files certFiles
	wanted

	owner    string // the service's user; empty in user mode, where it is the caller
	admin    string // the owner of what the service only reads; likewise
	binary   string // where the executable belongs
	bus      *bus
	problems []Problem

	confFile string // config.yaml, where it is not that of QuayRoot
}

// facts are what is on the host, read before anything is decided. The configuration says where more
// is: network, places and certFiles.
type facts struct {
	unit      *installed    // nil: not installed
	record    *record       // of what earlier installs did; nil
	recorded  bool          // one of them was complete
	changer   *host.Other   // another user who can change configuration and record; nil: none
	hearsay   *record       // the record, where others can change it; nil
	journal   *host.Journal // of a run that was interrupted
	replaced  bool          // its entries are over: the record alone has them
	unstarted []host.Entry  // those of a run that may have been killed before the daemon read what they wrote
	content   []byte        // of config.yaml
	contentIs error         // the reason why it has none
	quayUnit  string        // a unit of a mirror-registry
	denied    bool          // this user may not read all of it
	program   bool          // the executable to install is one
	serving   bool          // the installed service runs the program that is installed
	listening bool          // or its socket is active
	pid       uint32        // of the installed service

	guard    *guard    // first step of an install
	migrates *database // by an upgrade; nil
	rewound  *rewind   // by a rollback; nil
	rewinds  string    // name of the database's copy that a rollback puts back; empty: none
	loses    string    // by that

	moves          []relocation // of the content, by an upgrade
	databaseBefore string       // the database, where it is before them

	looked *Server // the database in PostgreSQL, where another program is to serve; nil: not looked at
}

func newSite(r Request, d Deps) (*site, error) {
	d, err := d.complete()
	if err != nil {
		return nil, err
	}
	bus := &bus{connect: d.Connect, user: r.User}
	s := &site{Deps: d, Request: r, binary: d.binary(r.User), bus: bus}
	var kept bool
	s.now, kept = d.Clock()
	s.drifts = !kept
	if !r.User {
		s.owner, s.admin = serviceUser, "root"
	}
	return s, nil
}

// look reads what is in the install directory, and reports whether there is a directory to go on
// with.
func (s *site) look() bool {
	if !s.completeDirs() {
		return false
	}
	s.content, s.contentIs = s.Host.ReadFile(s.confPath())
	s.journal = &host.Journal{Host: s.Host, Dir: filepath.Join(s.confDir(), "undo"), Kinds: s.kinds}
	var err error
	if s.record, err = s.readRecord(); err != nil {
		s.fault(err, "move that file away; a later uninstall then leaves empty directories behind")
	}
	s.recorded = s.record != nil
	s.lookWhoChanges()
	if s.changer != nil {
		return true
	}
	if err := s.journal.Load(); err != nil {
		s.fault(err, "move that directory away; what the interrupted run did then stays")
	}
	return true
}

// completeDirs completes the directories of the request, and reports whether they can be looked at.
func (s *site) completeDirs() bool {
	switch {
	case s.QuayRoot == "" && s.unit != nil:
		s.QuayRoot = s.unit.QuayRoot
	case s.QuayRoot == "" && s.Home == "":
		s.problem("there is no home directory to install into: HOME is not set, and the user database "+
			"does not know this user", "name the directory with --quayRoot, or set HOME")
		return false
	case s.QuayRoot == "":
		s.QuayRoot = filepath.Join(s.Home, "quay-install")
	}
	ok := true
	for i, path := range []*string{&s.QuayRoot, &s.QuayStorage, &s.SqliteStorage} {
		if *path == "" {
			continue
		}
		flag := []string{"--quayRoot", "--quayStorage", "--sqliteStorage"}[i]
		if s3url.Is(*path) {
			s.refuseBucket(flag, *path)
			*path = ""
			continue
		}
		*path = s.expand(*path)
		if !filepath.IsAbs(*path) {
			s.problem(fmt.Sprintf("%s %s is not an absolute path", flag, *path),
				"write the whole path, beginning with / or with ~/ for the home directory")
			ok = false
		}
	}
	if ok && s.unit != nil && s.unit.QuayRoot != s.QuayRoot {
		s.problem("an appliance is installed already, in "+s.unit.QuayRoot, "leave out --quayRoot to "+
			"work on that one; to move its images and database: appliance upgrade --quayStorage DIR --sqliteStorage DIR; "+
			"or remove it first: appliance uninstall --quayRoot "+s.unit.QuayRoot)
	}
	return ok
}

// expand resolves ~, which a shell does not in --quayRoot=~/quay.
func (s *site) expand(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = filepath.Join(s.Home, path[1:])
	}
	return filepath.Clean(path)
}

// resume adds what an interrupted run did to the record. Its steps also belong to this run, which
// undoes them if it fails, unless they are over: the service runs by now, or holds images. Those of an
// upgrade are over when the daemon writes: until then the version of before can come back.
func (s *site) resume(over bool) {
	killed := s.killedRun()
	over = over || s.journal.Done || s.serving && !(killed.is == upgradeRun && !killed.confirmed)
	for _, e := range s.journal.Entries {
		l, ok := e.Step.(*leavings)
		over = over || ok && hasImages(s.Host, l.Storage)
	}
	moves, stopped := s.moving()
	if s.adopting() || moves != nil { // their images are elsewhere as well
		over = s.journal.Done
	}
	if moves != nil && !over {
		s.resumeMove(moves, stopped)
	}
	if len(s.journal.Entries) > 0 {
		s.record = s.record.with(slices.DeleteFunc(slices.Clone(s.journal.Entries), s.isPassing))
		s.replacedByKilled(killed)
	}
	if over && len(moves) > 0 {
		s.record.moved(moves)
	}
	if over {
		if !s.journal.Done {
			s.unstarted = s.journal.Entries
		}
		s.replaced = len(s.journal.Entries) > 0
		s.journal = &host.Journal{Host: s.Host, Dir: s.journal.Dir, Kinds: s.kinds}
	}
}

// lookAtServices looks for the programs, and asks systemd whether the service runs.
func (s *site) lookAtServices(ctx context.Context) {
	if ok, err := s.Host.Exists("/run/systemd/system"); err != nil || !ok {
		s.problem("systemd is not running on this host (there is no /run/systemd/system)", "install on "+
			"a host that was booted with systemd; without one, run the daemon yourself: appliance serve "+
			"--config FILE")
		return
	}
	if err := s.askServices(ctx); err != nil {
		s.fault(err, "see whether systemd answers: systemctl status")
	}
}

func (s *site) askServices(ctx context.Context) error {
	manager, err := s.Connect(ctx, s.User)
	if err != nil {
		return err
	}
	defer manager.Close()
	if s.systemd, err = manager.Version(); err != nil {
		return err
	}
	for _, unit := range []string{systemd.Service, systemd.Socket} {
		status, err := manager.Status(ctx, unit)
		if err != nil {
			return err
		}
		active := status.ActiveState == "active"
		s.listening = s.listening || active
		if unit == systemd.Service {
			s.pid = status.MainPID
			s.serving = active && !runsAnother(s.Host, s.binary, status)
		}
		if status.LoadState == "masked" {
			s.problem(unit+" is masked", "unmask it first: systemctl unmask "+unit)
		}
	}
	if !s.User {
		return nil
	}
	// The daemon has to run on when the user logs out.
	on, err := manager.Linger(ctx, s.Geteuid())
	if err == nil && !on {
		on, err = manager.MayLinger(ctx)
		s.ends = err == nil && !on
	}
	return err
}

// listensOn reports whether the socket's unit, as it is, has the port.
func listensOn(h *host.Host, unitDir string, port int) bool {
	content, err := h.ReadFile(filepath.Join(unitDir, systemd.Socket))
	return err != nil || slices.Contains(settings(string(content), "ListenStream"), strconv.Itoa(port))
}

// runsAnother reports whether the service runs another program than the one that is installed.
func runsAnother(h *host.Host, binary string, status systemd.Status) bool {
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", status.MainPID))
	if status.MainPID == 0 || err != nil {
		return false
	}
	installed, err := os.Stat(h.Path(binary))
	return err == nil && !os.SameFile(running, installed)
}

// lookAtPrograms looks for the executable to install, and for a mirror-registry.
func (s *site) lookAtPrograms() {
	if s.rollback {
		s.Binary = s.Host.Path(s.previous())
	}
	fi, err := os.Stat(s.Binary)
	s.program = err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0
	for _, name := range []string{"app", "pod", "redis", "postgres"} {
		path := s.unitFile("quay-" + name + ".service")
		if info, err := s.Host.Stat(path); err == nil && info.Mode.IsRegular() {
			s.quayUnit = path
			return
		}
	}
	quadlet := adopt.QuadletFile(s.unitDir())
	if text, err := s.Host.ReadFile(quadlet); err == nil && adopt.IsQuadlet(string(text)) {
		s.quayUnit = quadlet
	}
}

func (s *site) unitDir() string { return s.Deps.unitDir(s.User) }

func (s *site) unitFile(name string) string { return filepath.Join(s.unitDir(), name) }

func (s *site) databaseDir() string { return filepath.Dir(s.cfg.Database) }

func (s *site) confPath() string { return cmp.Or(s.confFile, config.Path(s.QuayRoot)) }

func (s *site) confDir() string { return filepath.Dir(s.confPath()) }

func (s *site) caDir() string { return filepath.Join(s.QuayRoot, "quay-rootCA") }

// pullSecret is what seeding leaves beside config.yaml.
func (s *site) pullSecret() string { return PullSecretFile(s.QuayRoot) }

func (s *site) has(path string) bool {
	if path == "" {
		return false
	}
	_, err := s.Host.StatTarget(path)
	return err == nil
}

// isFile is has for what will be opened by its name: opening a pipe would wait for good.
func (s *site) isFile(path string) bool {
	info, err := s.Host.StatTarget(path)
	return path != "" && err == nil && info.Mode.IsRegular()
}

func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
