package installer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// PlanUninstall says what an uninstall is going to do. Blobs and database stay unless RemoveContent is set,
// and so do then the user that owns them and the record of which directories install made, for a later
// install or uninstall. Without an install the error is *NotInstalledError.
//
// An uninstall that fails half way is completed by another one: what leads to the rest is removed last.
func PlanUninstall(_ context.Context, r Request, d Deps) (*Plan, error) {
	t, err := resolveInstalled(r, d)
	if err != nil {
		return nil, err
	}
	plan := &Plan{bus: t.bus(), result: Result{QuayRoot: t.QuayRoot}, Warnings: t.problems}
	if t.record == nil {
		t.record = t.legacyRecord()
	}
	u := &unbuilder{target: t, plan: plan}
	if u.keptContent, err = u.keepsContent(); err != nil {
		return nil, err
	}
	u.uninstall()
	return plan, nil
}

// resolveInstalled finds the install that a request for an uninstall means.
func resolveInstalled(r Request, d Deps) (*target, error) {
	d, err := d.complete(r.User)
	if err != nil {
		return nil, err
	}
	t := &target{Deps: d, Request: r, binary: d.binary(r.User)}
	if !r.User {
		t.owner, t.admin = serviceUser, "root"
	}
	if t.found, err = find(d, r.User); err != nil && !errors.As(err, new(*NotInstalledError)) {
		return nil, err
	}
	if !t.resolveRoot() || len(t.problems) > 0 {
		return nil, &PreflightError{Problems: t.problems}
	}
	if len(t.problems) > 0 {
		return nil, &PreflightError{Problems: t.problems}
	}
	inRoot, err := t.Host.Exists(filepath.Dir(config.Path(t.QuayRoot)))
	if err != nil {
		return nil, err
	}
	if t.found == nil && (t.record == nil && !inRoot || t.isQuay()) {
		return nil, &NotInstalledError{Unit: t.unit(systemd.Service), QuayRoot: t.QuayRoot}
	}
	if err := t.installedConfig(); err != nil {
		return nil, err
	}
	for _, d := range []struct{ flag, asked, have string }{
		{"--quayStorage", r.QuayStorage, t.cfg.Storage}, {"--sqliteStorage", r.SqliteStorage, t.databaseDir()},
	} {
		if d.asked != "" && t.expand(d.asked) != d.have {
			t.problem(fmt.Sprintf("%s says %s, but the appliance in %s keeps it in %s", d.flag, d.asked, t.QuayRoot, d.have),
				"leave out "+d.flag+" to go on with that one")
		}
	}
	isWarning := func(p Problem) bool { return p.Warning }
	if fatal := slices.DeleteFunc(slices.Clone(t.problems), isWarning); len(fatal) > 0 {
		return nil, &PreflightError{Problems: fatal}
	}
	if rights := (rights{t.User, t.Geteuid(), t.Home}).Check(context.Background()); len(rights) > 0 {
		return nil, &PreflightError{Problems: rights}
	}
	return t, nil
}

// isQuay: the directory belongs to a mirror-registry, which is not ours to remove.
func (t *target) isQuay() bool {
	content, err := t.Host.ReadFile(config.Path(t.QuayRoot))
	return err == nil && isQuayConfig(content)
}

// installedConfig says where things are: by the record if there is one, otherwise by config.yaml, as far as its word
// counts, otherwise they are where they are by default. A broken config.yaml is refused where it is needed, since it may
// name other directories.
func (t *target) installedConfig() error {
	path := config.Path(t.QuayRoot)
	content, err := t.Host.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !isNotDir(err) && t.changer == nil {
		return fmt.Errorf("read the configuration: %w", err)
	}
	switch {
	case t.record != nil:
		t.QuayStorage, t.SqliteStorage = "", "" // it knows
		t.cfg = t.newConfig()
		t.problems = append(t.problems, t.strayDirs(content)...)
	case t.changer != nil:
		t.QuayStorage, t.SqliteStorage = "", ""
		t.cfg = t.legacyConfig(content)
	case err == nil:
		t.cfg, err = config.Parse(path, content)
		return err
	default:
		t.cfg = t.newConfig()
	}
	return nil
}

// legacyConfig takes from a configuration that the service can change where the unit has it too.
func (t *target) legacyConfig(content []byte) *config.Config {
	usual := config.Default(t.QuayRoot)
	cfg, err := config.Parse(config.Path(t.QuayRoot), content)
	if err != nil {
		return usual
	}
	t.cfg = cfg
	unnamed := t.unnamed()
	t.cfg = usual
	for _, d := range []struct{ dir, named, with string }{
		{cfg.Storage, "storage", cfg.Storage}, {filepath.Dir(cfg.Database), "database", cfg.Database},
	} {
		switch {
		case slices.Contains(unnamed, d.dir) || !t.plain(d.dir):
			t.problems = append(t.problems, Problem{
				What:   fmt.Sprintf("%s stays: config.yaml, which the service can change, names it, and %s does not", d.with, t.found.Unit),
				Remedy: "find out who wrote that", Warning: true,
			})
		case d.named == "storage":
			usual.Storage = cfg.Storage
		default:
			usual.Database = cfg.Database
		}
	}
	return usual
}

// plain reports whether a directory is the service's own in a directory that is not.
func (t *target) plain(dir string) bool {
	other, err := t.Host.Other(filepath.Dir(dir))
	return err == nil && (other == nil || other.UID != t.changer.UID)
}

// pullSecretName is what Deps.Seed leaves beside config.yaml.
const pullSecretName = "pull-secret.json"

// unbuilder collects the steps of an uninstall.
type unbuilder struct {
	*target
	plan        *Plan
	keptContent bool // blobs or database are there, and stay
}

func (u *unbuilder) add(s Step) { u.plan.Steps = append(u.plan.Steps, s) }

func (u *unbuilder) keepsContent() (bool, error) {
	if u.RemoveContent {
		return false, nil
	}
	for _, path := range u.content() {
		ok, err := u.Host.Exists(path)
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// content is what the store keeps, by name: a directory that the user named is never removed as a whole.
func (u *unbuilder) content() []string {
	var paths []string
	for _, name := range storageNames() {
		paths = append(paths, filepath.Join(u.cfg.Storage, name))
	}
	for _, name := range databaseNames(u.Host, u.cfg.Database) {
		paths = append(paths, filepath.Join(u.databaseDir(), name))
	}
	return paths
}

func (u *unbuilder) uninstall() {
	if u.record != nil || u.found != nil { // else it was only prepared, and a unit of that name is another's
		u.units()
	}
	u.executable()
	if u.RemoveContent {
		for _, path := range u.content() {
			u.add(&host.RemoveTree{Host: u.Host, Path: path})
		}
	}
	if u.record != nil && !u.keptContent {
		for _, dir := range u.record.Before {
			u.add(&giveBack{host: u.Host, dir: dir, service: u.owner})
		}
	}
	u.serviceUser()
	u.root()
}

func (u *unbuilder) units() {
	u.add(&stop{bus: u.plan.bus})
	for _, name := range []string{systemd.Socket, systemd.Service} {
		u.add(&host.Remove{Host: u.Host, Path: u.unit(name)})
	}
	if alias := u.unit("quay-app.service"); u.linksToUs(alias) {
		u.add(&host.Remove{Host: u.Host, Path: alias})
	}
	u.add(&reload{u.plan.bus})
}

// linksToUs: disabling removes the alias; this is for a link that an earlier, killed run left.
func (u *unbuilder) linksToUs(path string) bool {
	target, err := os.Readlink(u.Host.Path(path))
	return err == nil && filepath.Base(target) == systemd.Service
}

func (u *unbuilder) executable() {
	// The record says whether, and not which: the service could have rewritten it.
	ours := u.found != nil && u.found.Binary == u.binary
	if u.record != nil {
		ours = u.record.Binary != ""
	}
	if !ours {
		u.plan.Warnings = append(u.plan.Warnings, Problem{
			What: "the executable stays: it was there before the install", Remedy: "remove it yourself if you want to", Warning: true,
		})
		return
	}
	u.add(&host.Remove{Host: u.Host, Path: u.binary})
}

func (u *unbuilder) serviceUser() {
	if u.User || u.keptContent {
		return // the content goes on belonging to it
	}
	if u.record == nil && u.found == nil {
		return // nothing was installed, only prepared
	}
	u.add(&host.Remove{Host: u.Host, Path: sysusersFile})
	if u.record == nil || u.record.User {
		u.add(&host.RemoveUser{Host: u.Host, Name: serviceUser})
	}
}

// root removes what install put into quayRoot, and every directory that it made and that is now empty. What
// leads to all of it, config.yaml and the record, goes last.
func (u *unbuilder) root() {
	dirs, names, stays := []string{"run", "tls-state", "quay-rootCA"}, []string{"config.yaml", pullSecretName}, []string{recordName}
	if u.keptContent {
		// Clusters that use the content trust this CA, and their nodes have this pull secret, whose user is in the database.
		dirs, names, stays = dirs[:2], names[:1], append(stays, pullSecretName)
	}
	for _, name := range dirs {
		u.removeDir(filepath.Join(u.QuayRoot, name))
	}
	conf := filepath.Dir(config.Path(u.QuayRoot))
	if u.ours(conf) {
		u.add(&host.RemoveTree{Host: u.Host, Path: conf, Except: stays})
	} else {
		u.removeNames(conf, names...)
	}
	prune := []string{u.cfg.Storage, u.databaseDir()}
	if u.record != nil {
		prune = append(prune, u.record.Created...)
	} else {
		prune = append(prune, u.QuayRoot)
	}
	prune = slices.DeleteFunc(prune, func(dir string) bool {
		// Without a record there is no telling whether a directory outside was made by install.
		return dir == conf || dir == u.QuayRoot && u.keptContent || !within(dir, u.QuayRoot) && !u.record.created(dir)
	})
	slices.Sort(prune)
	prune = slices.Compact(prune)
	// Innermost first; those that hold quayRoot have to wait until the record is gone.
	slices.Reverse(prune)
	var outer []string
	for _, dir := range prune {
		if within(u.QuayRoot, dir) {
			outer = append(outer, dir)
			continue
		}
		u.add(&host.Prune{Host: u.Host, Path: dir})
	}
	if u.User && u.record != nil && u.record.Lingering {
		// Late: it may end the user's manager, if nobody is logged in.
		u.add(&unlinger{bus: u.plan.bus, uid: u.Geteuid()})
	}
	if u.keptContent {
		return
	}
	u.add(&host.Remove{Host: u.Host, Path: recordPath(u.QuayRoot)})
	u.add(&host.Prune{Host: u.Host, Path: conf})
	for _, dir := range outer {
		u.add(&host.Prune{Host: u.Host, Path: dir})
	}
}

// ours reports whether a directory may be removed with all that it holds: install made it.
func (u *unbuilder) ours(dir string) bool { return u.record == nil || u.record.created(dir) }

// removeDir removes a directory that install made, and of another one what install and the daemon have put there.
func (u *unbuilder) removeDir(dir string) {
	if u.ours(dir) {
		u.add(&host.RemoveTree{Host: u.Host, Path: dir})
		return
	}
	u.removeNames(dir, "appliance.sock", "ssl.cert", "ssl.key")
	u.add(&host.RemoveTree{Host: u.Host, Path: filepath.Join(u.QuayRoot, "tls-state", "certificates")})
}

// removeNames removes files of a directory: these, and those that the record names.
func (u *unbuilder) removeNames(dir string, names ...string) {
	for _, name := range names {
		if path := filepath.Join(dir, name); !strings.HasPrefix(name, "ssl.") || u.made(path) {
			u.add(&host.Remove{Host: u.Host, Path: path})
		}
	}
	for _, path := range u.record.Files {
		if within(path, dir) && !slices.Contains(names, filepath.Base(path)) {
			u.add(&host.Remove{Host: u.Host, Path: path})
		}
	}
}

// stop ends the service and keeps it from starting at boot.
type stop struct{ bus *bus }

func (s *stop) String() string {
	return "stop and disable " + systemd.Socket + " and " + systemd.Service
}

func (s *stop) waits() {}

func (s *stop) Apply(ctx context.Context) (bool, error) {
	if err := s.bus.open(ctx); err != nil {
		return false, err
	}
	// The socket first: the next connection would start the service again.
	if err := s.bus.Stop(ctx, systemd.Socket, systemd.Service); err != nil {
		return false, err
	}
	if err := s.bus.ResetFailed(ctx, systemd.Socket, systemd.Service); err != nil {
		return false, err
	}
	return s.bus.Disable(ctx, systemd.Service, systemd.Socket)
}

func (s *stop) Undo(context.Context) error { return nil }

// unlinger ends the lingering that install began.
type unlinger struct {
	bus *bus
	uid int
}

func (s *unlinger) String() string { return "let services of this user end when the user logs out" }

func (s *unlinger) Apply(ctx context.Context) (bool, error) {
	on, err := s.bus.Linger(ctx, s.uid)
	if err != nil || !on {
		return false, err
	}
	return true, s.bus.SetLinger(ctx, s.uid, false)
}

func (s *unlinger) Undo(context.Context) error { return nil }
