package installer

import (
	"fmt"
	"path/filepath"
	"slices"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/s3url"
	"github.com/mirror-appliance/appliance/registry/config"
)

// Configuration and record tell root which paths to act on, but only if root alone can change them.
// Installs of earlier versions gave both to the service's user. Of such an install the unit counts,
// and of config.yaml what the unit has, too.

// lookWhoChanges finds out who can change configuration and record, and forgets a record that
// others can change.
func (s *site) lookWhoChanges() {
	for _, path := range []string{s.confPath(), recordPath(s.QuayRoot), s.confDir()} {
		other, err := s.Host.Other(path)
		if notThere(err) {
			continue
		}
		if err != nil {
			s.fault(err, "correct the path, or choose another --quayRoot")
			return
		}
		if other != nil {
			s.changer = other
			break
		}
	}
	if s.changer == nil {
		return
	}
	s.hearsay, s.record = s.record, nil
	if s.owner == "" || s.unit == nil && s.has(s.confPath()) {
		s.fault(otherError(s.confDir(), *s.changer), "")
	}
}

// checkUnitNames finds paths that a configuration of the service's names and the unit, which is
// root's, does not.
func (s *site) checkUnitNames() {
	if s.changer == nil || s.unit == nil {
		return
	}
	for _, path := range s.unnamed(s.cfg) {
		s.problem(fmt.Sprintf("%s names %s, which %s does not; user %d can change that file",
			s.confPath(), path, s.unit.Unit, s.changer.UID), "find out how that came about, and correct "+
			"it; if it is as it should be, make the file root's: chown root "+s.confDir()+" "+s.confPath())
	}
}

// unnamed returns the paths of a configuration outside of the directories that the unit lets the
// service write, or read.
func (s *site) unnamed(cfg *config.Config) (paths []string) {
	for _, dir := range storeDirs(cfg) {
		if !withinAny(dir, s.unit.DataDirs...) {
			paths = append(paths, dir)
		}
	}
	c := cfg.TLS
	for _, file := range []string{c.CA, c.CAKey, c.Certificate, c.Key} {
		if file != "" && !within(file, s.QuayRoot) && !s.has(file) { // it would be made
			paths = append(paths, file)
		}
	}
	for _, dir := range readDirs(cfg) {
		if hides(dir) && !withinAny(dir, append(s.unit.DataDirs, s.unit.ReadDirs...)...) {
			paths = append(paths, dir)
		}
	}
	return paths
}

// checkRoots checks that the service's directories are apart from root's, and those of the content
// from the others of the service. (checkApart checks the two of the content.)
func (s *site) checkRoots() {
	dirs, contents := storeDirs(s.cfg), len(contentDirs(s.cfg))
	for i, dir := range dirs {
		others := []string{s.confDir(), s.caDir()}
		if i < contents {
			others = append(others, dirs[contents:]...)
		}
		for _, other := range others {
			a, b := s.Host.Real(dir), s.Host.Real(other)
			// What no directory of an install may be is refused as such.
			if !within(a, b) && !within(b, a) || s.Host.Removable(a) != nil || s.Host.Removable(b) != nil {
				continue
			}
			s.problem(fmt.Sprintf("%s and %s lie in each other, and what the service writes to the first "+
				"must not change the second", dir, other), "choose a directory of its own")
			break
		}
	}
}

// guess returns the record of an install that has none that counts: the directories of the unit,
// and those in quayRoot by default.
func (s *site) guess() *record {
	var old version1
	names := []string{"", "quay-config", "quay-rootCA", "quay-storage", "sqlite-storage", "run",
		"tls-state"}
	if s.unit == nil && notThere(s.contentIs) {
		names = names[:2] // the rest of a removal, which takes these last
	}
	for _, name := range names {
		old.Created = append(old.Created, filepath.Join(s.QuayRoot, name))
	}
	if s.unit == nil { // nothing was installed, only prepared
		entries := s.installOf(old)
		return &record{entries: slices.DeleteFunc(entries, s.outside)}
	}
	if s.unit.Binary == s.binary {
		old.Binary = s.binary
	}
	content, err := s.Host.ReadFile(sysusersFile)
	old.User = err == nil && string(content) == sysusers
	old.Created = append(old.Created, s.unit.DataDirs...)
	if s.hearsay != nil {
		old.Created = append(old.Created, s.above(s.hearsay.entries)...)
	}
	return &record{entries: s.installOf(old)}
}

// outside reports whether a step is about something outside of quayRoot.
func (s *site) outside(e host.Entry) bool {
	switch step := e.Step.(type) {
	case *host.Dir:
		return !within(step.Path, s.QuayRoot)
	case *host.File:
		return !within(step.Path, s.QuayRoot)
	}
	return true
}

// above returns the directories of a record that does not count, if they are above the files of an
// install. All that such a record can cause is that these directories, when empty, are removed.
func (s *site) above(entries []host.Entry) (dirs []string) {
	for _, e := range entries {
		dir, ok := e.Step.(*host.Dir)
		if !ok || e.Before.Is != "" ||
			dir.Path != filepath.Dir(sysusersFile) && host.SystemDir(dir.Path) {
			continue
		}
		files := append([]string{sysusersFile, s.binary, s.unit.Unit}, s.unit.DataDirs...)
		if slices.ContainsFunc(files, func(path string) bool { return within(path, dir.Path) }) {
			dirs = append(dirs, dir.Path)
		}
	}
	return dirs
}

// reader is the owner of files that root writes and the service reads.
func (s *site) reader() string {
	if s.User {
		return ""
	}
	return s.admin + ":" + s.owner
}

// takeRoot adds the steps that give quayRoot and its configuration to root. They come before other
// steps there.
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
	if !b.has(b.confDir()) {
		return
	}
	owner := b.admin
	if _, err := b.Host.User(b.owner); err == nil {
		owner = b.reader()
	}
	b.add(&host.Take{Host: b.Host, Path: b.confDir(), Owner: owner})
}

// warnOfStrays warns of directories that config.yaml names and the record does not: an uninstall
// leaves them alone.
func (s *site) warnOfStrays() {
	cfg, err := config.Parse(s.confPath(), s.content)
	if s.contentIs != nil || err != nil {
		return
	}
	for i, path := range [][2]string{{s.cfg.Storage, cfg.Storage}, {s.cfg.Database, cfg.Database}} {
		there := []bool{s3url.Is(cfg.Storage), cfg.DatabaseServer() != ""}[i] // see Plan.Elsewhere
		if path[0] != path[1] && !there {
			s.warn(path[1]+" stays: config.yaml names it, and install has not made it",
				"remove it yourself if it is the registry's")
		}
	}
}

// legacyConfig takes the paths of a configuration of the service's that the unit has, too.
func (s *site) legacyConfig() *config.Config {
	usual := config.Default(s.QuayRoot)
	cfg, err := config.Parse(s.confPath(), s.content)
	if err != nil {
		return usual
	}
	unnamed := s.unnamed(cfg)
	for _, d := range []struct {
		dir, path string
		usual     *string
		elsewhere bool
	}{
		{cfg.Storage, cfg.Storage, &usual.Storage, s3url.Is(cfg.Storage)},
		{filepath.Dir(cfg.Database), cfg.Database, &usual.Database, cfg.DatabaseServer() != ""},
	} {
		if d.elsewhere {
			continue
		}
		// The service's own directory lies in one that is not the service's.
		other, err := s.Host.Other(filepath.Dir(d.dir))
		plain := err == nil && (other == nil || other.UID != s.changer.UID)
		if plain && !slices.Contains(unnamed, d.dir) {
			*d.usual = d.path
			continue
		}
		s.warn(fmt.Sprintf("%s stays: config.yaml, which the service can change, names it, and %s does "+
			"not", d.path, s.unit.Unit), "find out how that came about")
	}
	return usual
}
