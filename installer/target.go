package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

const (
	serviceUser  = "appliance"
	sysusersFile = "/etc/sysusers.d/appliance.conf"
	databaseName = "appliance.db"
)

// target is a request with everything filled in, and what was found on the host.
type target struct {
	Deps
	Request
	generated bool // the password was not given

	found     *Found         // nil: not installed
	cfg       *config.Config // what the install is to run with
	kept      bool           // cfg is the config.yaml that exists
	written   []byte         // what is written in it
	text      []byte         // the same, with what install keeps true in it
	record    *record        // of an earlier install; nil
	changer   *host.Other    // the user besides root, or the caller, who can change configuration and record; nil: none
	hearsay   *record        // the record, where others can change it; nil
	foreign   bool           // the certificate that is there is not one of our CA
	binary    string         // where the executable goes
	owner     string         // the service's user; empty in user mode, where it is the caller
	admin     string         // the owner of what the service only reads; likewise
	running   bool           // the installed service, or its socket, is active
	renamed   bool           // the certificate is for another hostname: the daemon has to make one
	lingering bool           // user mode: is on already
	certs     certificates

	problems []Problem // what went wrong while this was filled in
}

func (t *target) problem(what, remedy string) {
	t.problems = append(t.problems, Problem{What: what, Remedy: remedy})
}

// fault is problem for an error, whose own hint is better than ours.
func (t *target) fault(err error, remedy string) { t.problem(err.Error(), hintOf(err, remedy)) }

func hintOf(err error, otherwise string) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return h.Hint()
	}
	return otherwise
}

// resolve fills in a request for an install. What is wrong with it is in problems, not in err.
func resolve(ctx context.Context, r Request, d Deps) (*target, error) {
	d, err := d.complete(r.User)
	if err != nil {
		return nil, err
	}
	t := &target{Deps: d, Request: r, binary: d.binary(r.User)}
	if !r.User {
		t.owner, t.admin = serviceUser, "root"
	}
	t.resolveUsers()
	if t.found, err = find(d, r.User); err != nil && !errors.As(err, new(*NotInstalledError)) {
		t.fault(err, "make that file readable")
	}
	if !t.resolveRoot() {
		return t, nil
	}
	t.resolveConfig()
	if t.cfg != nil {
		t.resolveCertificates()
	}
	t.resolveServices(ctx)
	return t, nil
}

func (t *target) resolveUsers() {
	if t.InitUser == "" {
		t.InitUser = "init"
	}
	if t.InitPassword == "" {
		t.generated = true
		t.InitPassword = generatePassword()
	}
}

// resolveRoot says whether there is a directory to go on with.
func (t *target) resolveRoot() bool {
	if t.QuayRoot == "" {
		if t.Home == "" && t.found == nil {
			t.problem("there is no home directory to install into: HOME is not set, and the user database does not know this user",
				"name the directory with --quayRoot, or set HOME")
			return false
		}
		t.QuayRoot = filepath.Join(t.Home, "quay-install")
		if t.found != nil {
			t.QuayRoot = t.found.QuayRoot
		}
	}
	t.QuayRoot = t.expand(t.QuayRoot)
	t.QuayStorage, t.SqliteStorage = t.expandOptional(t.QuayStorage), t.expandOptional(t.SqliteStorage)
	ok := true
	for _, dir := range []struct{ flag, path string }{
		{"--quayRoot", t.QuayRoot}, {"--quayStorage", t.QuayStorage}, {"--sqliteStorage", t.SqliteStorage},
	} {
		if dir.path != "" && !filepath.IsAbs(dir.path) {
			t.problem(fmt.Sprintf("%s %s is not an absolute path", dir.flag, dir.path),
				"write the whole path, beginning with / or with ~/ for the home directory")
			ok = false
		}
	}
	if !ok {
		return false
	}
	if t.found != nil && t.found.QuayRoot != t.QuayRoot {
		t.problem(fmt.Sprintf("an appliance is installed already, in %s", t.found.QuayRoot),
			fmt.Sprintf("leave out --quayRoot to work on that one, or remove it first: appliance uninstall --quayRoot %s", t.found.QuayRoot))
	}
	var err error
	if t.record, err = readRecord(t.Host, t.QuayRoot); err != nil {
		t.fault(err, "move that file away; a later uninstall then leaves empty directories behind")
	}
	t.resolveChanger()
	return true
}

// expand resolves ~ as a shell does, for those who write --quayRoot=~/quay, which no shell expands.
func (t *target) expand(path string) string {
	if path == "~" || strings.HasPrefix(path, "~/") {
		path = filepath.Join(t.Home, path[1:])
	}
	return filepath.Clean(path)
}

func (t *target) expandOptional(path string) string {
	if path == "" {
		return ""
	}
	return t.expand(path)
}

// resolveConfig reads the config.yaml that is there, or makes one. Without a usable one, cfg stays nil.
func (t *target) resolveConfig() {
	path := config.Path(t.QuayRoot)
	content, err := t.Host.ReadFile(path)
	switch {
	case err == nil && isQuayConfig(content):
		return // the check for a mirror-registry says so
	case err == nil:
		cfg, err := config.Parse(path, content)
		if err != nil {
			t.fault(err, "correct the file, or move it away to have a new one written")
			return
		}
		t.cfg, t.kept, t.written, t.text = cfg, true, content, config.Follow(content, cfg)
		t.checkUnitNames()
		t.checkRoots()
		t.refuseChanges()
	case errors.Is(err, fs.ErrNotExist) || isNotDir(err):
		t.cfg = t.newConfig()
		t.refuseSeparation()
	default:
		t.fault(fmt.Errorf("read the existing configuration: %w", err), "make that file readable")
	}
}

func (t *target) newConfig() *config.Config {
	cfg := config.Default(t.QuayRoot)
	cfg.Hostname = normalizeHostname(t.Hostname)
	if t.Hostname == "" {
		cfg.Hostname = normalizeHostname(hostname())
	}
	if t.Port != 0 {
		cfg.Port = t.Port
	}
	cfg.Listen = fmt.Sprintf(":%d", cfg.Port)
	if t.record != nil {
		cfg.Storage, cfg.Database = t.record.Storage, filepath.Join(t.record.Database, cmp.Or(t.record.File, databaseName))
	}
	if t.QuayStorage != "" {
		cfg.Storage = t.QuayStorage
	}
	if t.SqliteStorage != "" {
		cfg.Database = filepath.Join(t.SqliteStorage, databaseName)
	}
	return cfg
}

// hostname is this host's name; one that cannot be told is refused as no hostname at all.
func hostname() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

func normalizeHostname(name string) string { return strings.ToLower(strings.TrimSuffix(name, ".")) }

// refuseChanges compares what is asked for with a configuration that exists: it is the user's.
func (t *target) refuseChanges() {
	path := config.Path(t.QuayRoot)
	differs := func(flag, asked, have string) {
		t.problem(fmt.Sprintf("%s says %s, but %s says %s", flag, asked, path, have),
			fmt.Sprintf("changing it is not built yet: leave it at %s, or uninstall (the content can be kept) and install anew", have))
	}
	if asked := normalizeHostname(t.Hostname); asked != "" && asked != t.cfg.Hostname {
		differs("--quayHostname", asked, t.cfg.Hostname)
	}
	if t.Port != 0 && t.Port != t.cfg.Port {
		differs("--quayHostname", fmt.Sprintf("port %d", t.Port), fmt.Sprintf("port %d", t.cfg.Port))
	}
	if t.QuayStorage != "" && t.QuayStorage != t.cfg.Storage {
		differs("--quayStorage", t.QuayStorage, t.cfg.Storage)
	}
	if dir := filepath.Dir(t.cfg.Database); t.SqliteStorage != "" && t.SqliteStorage != dir {
		differs("--sqliteStorage", t.SqliteStorage, dir)
	}
}

// refuseSeparation compares what is asked for with where an uninstall left the images: their database is of no use
// without them. (storageContent refuses the other way round.)
func (t *target) refuseSeparation() {
	if t.record == nil || t.QuayStorage == "" || t.QuayStorage == t.record.Storage || !t.has(filepath.Join(t.record.Storage, "sha256")) {
		return
	}
	t.problem(fmt.Sprintf("--quayStorage says %s, but the content that was kept lies in %s", t.QuayStorage, t.record.Storage),
		"leave out --quayStorage, or remove the content first: appliance uninstall")
}

// resolveServices asks systemd whether the service runs, and logind whether the user lingers.
func (t *target) resolveServices(ctx context.Context) {
	if ok, err := t.Host.Exists("/run/systemd/system"); err != nil || !ok {
		t.problem("systemd is not running on this host (there is no /run/systemd/system)",
			"install on a host that was booted with systemd; without one, run the daemon yourself: appliance serve --config FILE")
		return
	}
	if err := t.askServices(ctx); err != nil {
		t.fault(err, "see whether systemd answers: systemctl status")
	}
}

func (t *target) askServices(ctx context.Context) error {
	sm, err := t.Connect(ctx, t.User)
	if err != nil {
		return err
	}
	defer sm.Close()
	for _, unit := range []string{systemd.Service, systemd.Socket} {
		status, err := sm.Status(ctx, unit)
		if err != nil {
			return err
		}
		t.running = t.running || status.ActiveState == "active"
		if status.LoadState == "masked" {
			t.problem(unit+" is masked", "unmask it first: systemctl unmask "+unit)
		}
	}
	if t.User {
		t.lingering, err = sm.Linger(ctx, t.Geteuid())
	}
	return err
}

// databaseDir is the directory of the SQLite file.
func (t *target) databaseDir() string { return filepath.Dir(t.cfg.Database) }

func (t *target) bus() *bus { return &bus{connect: t.Connect, user: t.User} }

// unit is where a unit of ours lies.
func (t *target) unit(name string) string { return unitPath(t.unitDir(t.User), name) }

func (t *target) mode(system, user fs.FileMode) fs.FileMode {
	if t.User {
		return user
	}
	return system
}
