package installer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
)

// Configuration and record tell root which paths to act on. They do so only if none but root can change them. An install
// of an earlier version gave both to the service's user, and with them whatever a service that was taken over cared to
// write; of such an install root believes the unit, and of config.yaml only what the unit says too.

// resolveChanger finds out who can change configuration and record, and forgets a record that others can.
func (t *target) resolveChanger() {
	conf := config.Path(t.QuayRoot)
	for _, path := range []string{conf, recordPath(t.QuayRoot), filepath.Dir(conf)} {
		other, err := t.Host.Other(path)
		if errors.Is(err, fs.ErrNotExist) || isNotDir(err) {
			continue
		}
		if err != nil {
			t.fault(err, "correct the path, or choose another --quayRoot")
			return
		}
		if other != nil {
			t.changer = other
			break
		}
	}
	if t.changer == nil {
		return
	}
	t.hearsay, t.record = t.record, nil
	if t.owner != "" && (t.found != nil || !t.has(conf)) {
		return
	}
	err := &OtherError{Config: filepath.Dir(conf), Other: *t.changer}
	t.problem(err.Error(), err.Hint())
}

// checkUnitNames finds what a configuration that the service can change names and the unit, which it cannot, does not.
func (t *target) checkUnitNames() {
	if t.changer == nil || t.found == nil {
		return
	}
	for _, path := range t.unnamed() {
		t.problem(fmt.Sprintf("%s names %s, which %s does not; user %d can change that file", config.Path(t.QuayRoot), path, t.found.Unit, t.changer.UID),
			"find out who wrote that, and correct it; if it is as it should be, make the file root's: chown root "+filepath.Dir(config.Path(t.QuayRoot))+" "+config.Path(t.QuayRoot))
	}
}

// unnamed are the paths of the configuration that lie outside of what the unit lets the service write, or read.
func (t *target) unnamed() (paths []string) {
	named := func(path string, dirs []string) bool {
		return slices.ContainsFunc(dirs, func(dir string) bool { return within(path, dir) })
	}
	for _, dir := range StoreDirs(t.cfg) {
		if !named(dir, t.found.DataDirs) {
			paths = append(paths, dir)
		}
	}
	c := t.cfg.TLS
	for _, file := range []string{c.CA, c.CAKey, c.Certificate, c.Key} {
		if file != "" && !within(file, t.QuayRoot) && !t.has(file) { // it would be made
			paths = append(paths, file)
		}
	}
	for _, dir := range t.readDirs() {
		hidden := slices.ContainsFunc([]string{"/root", "/home", "/run/user", "/tmp", "/var/tmp"}, func(h string) bool { return within(dir, h) })
		if hidden && !named(dir, append(t.found.DataDirs, t.found.ReadDirs...)) {
			paths = append(paths, dir)
		}
	}
	return paths
}

// checkRoots: the directories of the service's are not those of root's, and hold none of these.
func (t *target) checkRoots() {
	for _, dir := range StoreDirs(t.cfg) {
		for _, roots := range []string{filepath.Dir(config.Path(t.QuayRoot)), filepath.Join(t.QuayRoot, "quay-rootCA")} {
			if within(dir, roots) || within(roots, dir) && within(dir, t.QuayRoot) {
				t.problem(fmt.Sprintf("%s and %s lie in each other, and the service writes to the first and must not write to the second", dir, roots),
					"choose a directory of its own")
			}
		}
	}
}

// legacyRecord is what can be told of an install whose record the service could have written: the directories that the
// unit names, and what lies in quayRoot by default.
func (t *target) legacyRecord() *record {
	if t.changer == nil || t.found == nil {
		return nil
	}
	r := &record{Version: recordVersion, Owner: t.owner}
	if t.found.Binary == t.binary {
		r.Binary = t.binary
	}
	if content, err := t.Host.ReadFile(sysusersFile); err == nil && string(content) == sysusers {
		r.User = true
	}
	r.Created = append(r.Created, t.found.DataDirs...)
	// An empty directory above what an install makes goes if the old record says so: more that record cannot do.
	if t.hearsay != nil {
		for _, dir := range t.hearsay.Created {
			above := slices.ContainsFunc(append([]string{sysusersFile, t.binary, t.found.Unit}, t.found.DataDirs...),
				func(path string) bool { return within(path, dir) })
			if above && (dir == filepath.Dir(sysusersFile) || !host.SystemDir(dir)) {
				r.Created = append(r.Created, dir)
			}
		}
	}
	for _, name := range []string{"", "quay-config", "quay-rootCA", "quay-storage", "sqlite-storage", "run", "tls-state"} {
		r.Created = append(r.Created, filepath.Join(t.QuayRoot, name))
	}
	return r
}

// reader is who owns what root writes and the service reads.
func (t *target) reader() string {
	if t.User {
		return ""
	}
	return t.admin + ":" + t.owner
}

// takeRoot adds the steps that make quayRoot and its configuration root's. They come before anything else is done there.
func (b *builder) takeRoot() {
	if b.User {
		return
	}
	info, err := b.Host.StatTarget(b.QuayRoot)
	if err != nil {
		return
	}
	root, err := b.Host.User(b.admin)
	if err == nil && (info.Owner.UID != root.UID || info.Mode.Perm()&0o022 != 0) {
		b.add(&host.Dir{Host: b.Host, Path: b.QuayRoot, Mode: info.Mode.Perm() &^ 0o022, Owner: b.admin})
	}
	conf := filepath.Dir(config.Path(b.QuayRoot))
	if ok, err := b.Host.Exists(conf); err != nil || !ok {
		return
	}
	owner := b.admin
	if _, err := b.Host.User(b.owner); err == nil {
		owner = b.reader()
	}
	b.add(&host.Take{Host: b.Host, Path: conf, Owner: owner})
}

// changedBy warns of a directory on the way to quayRoot that another user can change: root's commands then do not take
// the configuration for root's.
type changedBy struct {
	place
	user bool
}

func (c changedBy) Check(context.Context) []Problem {
	dir, err := c.existing()
	if err != nil {
		return nil // place says so
	}
	if dir == filepath.Clean(c.path) && !c.user {
		dir = filepath.Dir(dir) // it is made root's
	}
	other, err := c.host.Other(dir)
	if err != nil || other == nil {
		return nil
	}
	if other.UID < 0 {
		return found(fmt.Sprintf("%s %s: several users can change %s, and put something else in its place", c.name, c.path, other.Path),
			"close it to them: chmod go-w "+other.Path+"; or choose another directory")
	}
	return []Problem{{
		What:    fmt.Sprintf("%s %s lies in %s, whose user %s can put something else in its place", c.name, c.path, other.Path, c.host.UserName(other.UID)),
		Remedy:  "go on if that user may decide what the registry is; otherwise choose a directory of root's, such as /opt/quay-install",
		Warning: true,
	}}
}

// strayDirs tells of directories that config.yaml names and the record does not: an uninstall leaves them alone.
func (t *target) strayDirs(text []byte) (stray []Problem) {
	cfg, err := config.Parse(config.Path(t.QuayRoot), text)
	if err != nil {
		return nil
	}
	for _, path := range []struct{ have, asked string }{{t.cfg.Storage, cfg.Storage}, {t.cfg.Database, cfg.Database}} {
		if path.have != path.asked {
			stray = append(stray, Problem{
				What:   fmt.Sprintf("%s stays: config.yaml names it, and install has not made it", strings.TrimSpace(path.asked)),
				Remedy: "remove it yourself if it is the registry's", Warning: true,
			})
		}
	}
	return stray
}
