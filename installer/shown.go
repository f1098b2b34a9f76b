package installer

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
)

// hides reports whether a system's unit hides a directory, unless it binds it back.
func hides(dir string) bool {
	return withinAny(dir, "/root", "/home", "/run/user", "/tmp", "/var/tmp")
}

// checkShown finds files in a directory that the unit cannot bind back: with that the service would see all
// of a home directory, and it had to pass through it on the way to its own.
func (s *site) checkShown() {
	if s.User {
		return
	}
	for _, file := range readFiles(s.cfg) {
		if dir := filepath.Dir(file); hides(dir) && dir != s.QuayRoot && within(s.QuayRoot, dir) {
			s.problem(fmt.Sprintf("config.yaml names %s, and the service sees nothing that is right in %s", file, dir),
				"put it into "+s.confDir()+", or into a directory of its own, and correct config.yaml")
		}
	}
}

// CheckFiles returns an error for a file of an upstream that the installed service will not be able to read,
// though the caller can. Whether it is there, and of use, is not looked at.
func (id *Identity) CheckFiles(d Deps, u config.Upstream) error {
	unit, err := find(d, os.Geteuid() != 0)
	if err != nil || unit.Config != id.Path || unit.User == "" {
		return nil // none is installed: the one that runs is asked
	}
	for _, f := range namedBy(&config.Config{Upstreams: []config.Upstream{u}}) {
		if err := id.checkFile(unit, f); err != nil {
			return err
		}
	}
	return nil
}

func (id *Identity) checkFile(unit *installed, f namedFile) error {
	dir, need := filepath.Dir(f.path), fs.FileMode(0o4)
	if f.dir {
		dir, need = f.path, 0o5
	}
	info, err := id.host.StatTarget(f.path)
	if err != nil {
		return nil // is told by the registry
	}
	place := fmt.Sprintf("put it into %s, and open it to the service there: chown root:%s FILE && chmod 640 FILE", filepath.Dir(id.Path), unit.User)
	if hides(dir) && !withinAny(dir, slices.Concat(unit.DataDirs, unit.ReadDirs)...) {
		return hint.New(fmt.Errorf("%s: the service does not see %s, which its unit hides", f.path, dir), place)
	}
	owner := host.Owner{UID: id.UID, GID: id.GID}
	closed, err := id.host.Closed(f.path, owner)
	if hides(dir) && len(closed) > 0 && closed[0] != dir { // those above are not there for the service
		closed = nil
	}
	switch {
	case err != nil:
		return err
	case len(closed) > 0:
		return hint.New(fmt.Errorf("%s: user %s, as which the service runs, may not pass through %s", f.path, unit.User, closed[0]), place)
	case !allowed(info, owner, need):
		return hint.New(fmt.Errorf("%s: user %s, as which the service runs, may not read it (mode %04o)", f.path, unit.User, info.Mode.Perm()),
			fmt.Sprintf("chown root:%s %s && chmod %s %[2]s", unit.User, f.path, map[bool]string{false: "640", true: "750"}[f.dir]))
	}
	return nil
}
