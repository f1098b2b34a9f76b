package installer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

const (
	serviceUser  = "appliance"
	sysusersFile = "/etc/sysusers.d/appliance.conf"
	databaseName = "appliance.db"
)

// site is a host, and a request that is about it: what is there, what is wanted, and what is in the way.
type site struct {
	Deps
	Request
	facts
	wanted

	owner    string // the service's user; empty in user mode, where it is the caller
	admin    string // the owner of what the service only reads; likewise
	binary   string // where the executable belongs
	bus      *bus
	problems []Problem
}

// facts are what is on the host, read before anything is decided.
type facts struct {
	unit      *installed    // nil: not installed
	record    *record       // of what earlier installs did; nil
	changer   *host.Other   // the user besides root, or the caller, who can change configuration and record; nil: none
	hearsay   *record       // the record, where others can change it; nil
	journal   *host.Journal // of a run that was interrupted
	content   []byte        // of config.yaml
	contentIs error         // the reason why it has none
	serving   bool          // the installed service runs the program that is installed
	listening bool          // or its socket is active
	lingering bool          // user mode: is on already
}

func newSite(r Request, d Deps) (*site, error) {
	d, err := d.complete()
	if err != nil {
		return nil, err
	}
	s := &site{Deps: d, Request: r, binary: d.binary(r.User), bus: &bus{connect: d.Connect, user: r.User}}
	if !r.User {
		s.owner, s.admin = serviceUser, "root"
	}
	return s, nil
}

func (s *site) problem(what, remedy string) {
	s.problems = append(s.problems, Problem{What: what, Remedy: remedy})
}

func (s *site) warn(what, remedy string) {
	s.problems = append(s.problems, Problem{What: what, Remedy: remedy, Warning: true})
}

// fault is problem for an error, whose own hint is better than remedy.
func (s *site) fault(err error, remedy string) { s.problem(err.Error(), hintOf(err, remedy)) }

// look reads what is in the install directory, and reports whether there is a directory to go on with.
func (s *site) look() bool {
	if !s.root() {
		return false
	}
	path := config.Path(s.QuayRoot)
	s.content, s.contentIs = s.Host.ReadFile(path)
	s.journal = &host.Journal{Host: s.Host, Dir: filepath.Join(filepath.Dir(path), "undo"), Kinds: s.kinds}
	var err error
	if s.record, err = s.readRecord(); err != nil {
		s.fault(err, "move that file away; a later uninstall then leaves empty directories behind")
	}
	s.lookWhoChanges()
	if s.changer != nil {
		return true
	}
	if err := s.journal.Load(); err != nil {
		s.fault(err, "move that directory away; what the interrupted run did then stays")
	}
	return true
}

// root completes the directories, and reports whether they can be looked at.
func (s *site) root() bool {
	if s.QuayRoot == "" {
		if s.Home == "" && s.unit == nil {
			s.problem("there is no home directory to install into: HOME is not set, and the user database does not know this user",
				"name the directory with --quayRoot, or set HOME")
			return false
		}
		s.QuayRoot = filepath.Join(s.Home, "quay-install")
		if s.unit != nil {
			s.QuayRoot = s.unit.QuayRoot
		}
	}
	ok := true
	for _, dir := range []struct {
		flag string
		path *string
	}{{"--quayRoot", &s.QuayRoot}, {"--quayStorage", &s.QuayStorage}, {"--sqliteStorage", &s.SqliteStorage}} {
		if *dir.path == "" {
			continue
		}
		*dir.path = s.expand(*dir.path)
		if !filepath.IsAbs(*dir.path) {
			s.problem(fmt.Sprintf("%s %s is not an absolute path", dir.flag, *dir.path),
				"write the whole path, beginning with / or with ~/ for the home directory")
			ok = false
		}
	}
	if ok && s.unit != nil && s.unit.QuayRoot != s.QuayRoot {
		s.problem(fmt.Sprintf("an appliance is installed already, in %s", s.unit.QuayRoot),
			fmt.Sprintf("leave out --quayRoot to work on that one, or remove it first: appliance uninstall --quayRoot %s", s.unit.QuayRoot))
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

// resume adds what an interrupted run did to the record. Its steps also belong to this run, which undoes them if it fails,
// unless they are over: the service runs by now, or holds images.
func (s *site) resume(over bool) {
	over = over || s.journal.Done || s.serving
	for _, e := range s.journal.Entries {
		if l, ok := e.Step.(*leavings); ok {
			for _, dir := range []string{"sha256", "sha512"} {
				names, err := s.Host.Names(filepath.Join(l.Storage, dir))
				over = over || err == nil && len(names) > 0
			}
		}
	}
	if len(s.journal.Entries) > 0 {
		s.record = s.record.with(s.journal.Entries)
	}
	if over {
		s.journal = &host.Journal{Host: s.Host, Dir: s.journal.Dir, Kinds: s.kinds}
	}
}

// lookAtServices asks systemd whether the service runs, and logind whether the user lingers.
func (s *site) lookAtServices(ctx context.Context) {
	if ok, err := s.Host.Exists("/run/systemd/system"); err != nil || !ok {
		s.problem("systemd is not running on this host (there is no /run/systemd/system)",
			"install on a host that was booted with systemd; without one, run the daemon yourself: appliance serve --config FILE")
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
	for _, unit := range []string{systemd.Service, systemd.Socket} {
		status, err := manager.Status(ctx, unit)
		if err != nil {
			return err
		}
		active := status.ActiveState == "active"
		s.listening = s.listening || active
		if unit == systemd.Service {
			s.serving = active && !runsAnother(s.Host, s.binary, status)
		}
		if status.LoadState == "masked" {
			s.problem(unit+" is masked", "unmask it first: systemctl unmask "+unit)
		}
	}
	if s.User {
		s.lingering, err = manager.Linger(ctx, s.Geteuid())
	}
	return err
}

// runsAnother reports whether the service runs another program than the one that is installed.
func runsAnother(h *host.Host, binary string, status systemd.Status) bool {
	if status.MainPID == 0 {
		return false
	}
	running, err := os.Stat(fmt.Sprintf("/proc/%d/exe", status.MainPID))
	if err != nil {
		return false
	}
	installed, err := os.Stat(h.Path(binary))
	return err == nil && !os.SameFile(running, installed)
}

func (s *site) unitDir() string { return s.Deps.unitDir(s.User) }

// unitFile is where a unit of ours lies.
func (s *site) unitFile(name string) string { return filepath.Join(s.unitDir(), name) }

// databaseDir is the directory of the SQLite file.
func (s *site) databaseDir() string { return filepath.Dir(s.cfg.Database) }

func (s *site) confDir() string { return filepath.Dir(config.Path(s.QuayRoot)) }

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

// isQuay reports whether the directory belongs to a mirror-registry.
func (s *site) isQuay() bool { return s.contentIs == nil && isQuayConfig(s.content) }

func notThere(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)
}
