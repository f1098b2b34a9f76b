package installer

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/diskspace"
)

// statfs describes the file system of a path.
type statfs func(path string, buf *unix.Statfs_t) error

// place is a directory of an install, and what the host has where it is or will be.
type place struct {
	name, path string // name: the flag, or what it is
	ours       []string
	names      []string // in it
	ways       []string // by which it is reached
	protected  error    // the reason why none of an install's directories may be in the place of
	shared     string   // this one of its ways
	closed     []string // the directories above it that the service's user may not pass through
	ground
}

// ground is the innermost existing directory on the way to a place, and its file system.
type ground struct {
	dir    string
	err    error // the reason why there is none
	access error // the reason why this user cannot write to it
	fs     unix.Statfs_t
	mount  string // with noexec, the mount point
}

// places are the directories that an install writes to.
type places struct {
	root, storage, database, bin, units place
	own                                 []place     // an edited configuration may name any
	above                               *host.Other // the user who can exchange root; nil: none
	known                               bool        // the database exists
	images                              bool        // storage has blobs
}

// free returns how many bytes of the file system are free, and how many of them pushes leave free. The
// file system is known where there are any.
func (s *site) free(g ground) (free, kept uint64) {
	size := int64(g.fs.Bsize)
	return g.fs.Bavail * uint64(size), uint64(diskspace.Kept(int64(g.fs.Blocks)*size, int64(s.cfg.MinFree)))
}

func (s *site) lookAtPlaces() {
	d := &s.dirs
	socket := s.cfg.ControlSocket
	d.root = s.lookAtPlace("--quayRoot", s.QuayRoot)
	d.bin = s.lookAtPlace("the executable's directory", filepath.Dir(s.binary))
	d.units = s.lookAtPlace("the unit directory", s.unitDir())
	d.own = []place{
		s.lookAtPlace("the control socket's directory", filepath.Dir(socket), filepath.Base(socket))}
	s.lookAtHalves()
	if run := &d.own[0]; s.onServer() { // what the daemon keeps beside a file is there
		run.ours = append(run.ours, databaseNames(s.cfg.Database, run.names)...)
	}
	if state := s.cfg.TLS.State; state != "" {
		own := s.lookAtPlace("the directory of tls.state", state, "certificates")
		d.own = append(d.own, own)
	}
	// In the place of quayRoot a directory in it, since quayRoot has to be passed through as well.
	d.root.closed = s.closedTo(filepath.Join(s.QuayRoot, "quay-config"))

	above := d.root.dir
	if above == filepath.Clean(s.QuayRoot) && !s.User {
		above = filepath.Dir(above) // quayRoot itself is made root's
	}
	d.above, _ = s.Host.Other(above) // an error is told of root
}

// lookAtHalves looks at the directories of blobs and database, as far as they are on this host.
func (s *site) lookAtHalves() {
	d := &s.dirs
	if !s.inBucket() {
		d.storage = s.lookAtPlace("--quayStorage", s.cfg.Storage, storageNames()...)
		d.storage.closed = s.closedTo(d.storage.path)
		d.images = hasImages(s.Host, s.cfg.Storage)
	}
	if !s.onServer() {
		d.database = s.lookAtPlace("--sqliteStorage", s.databaseDir())
		d.database.ours = databaseNames(s.cfg.Database, d.database.names)
		d.database.closed = s.closedTo(d.database.path)
		ok, err := s.Host.Exists(s.cfg.Database) // an error is told of database
		d.known = ok || err != nil
	}
}

// halves are the directories of blobs and database that are on this host.
func (s *site) halves() (here []place) {
	if !s.inBucket() {
		here = append(here, s.dirs.storage)
	}
	if !s.onServer() {
		here = append(here, s.dirs.database)
	}
	return here
}

func (s *site) lookAtPlace(name, path string, ours ...string) place {
	p := place{name: name, path: path, ours: ours, ways: s.Host.Ways(path)}
	p.names, _ = s.Host.Names(path) // it is not there, or its ground has the reason
	for _, way := range p.ways {
		if p.protected = s.Host.Removable(way); p.protected != nil {
			p.shared = way
			break
		}
	}
	if p.dir, p.err = existing(s.Host, path); p.err != nil {
		return p
	}
	dir := s.Host.Path(p.dir)
	p.access = unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	if err := s.Statfs(dir, &p.fs); err == nil && p.fs.Flags&unix.ST_NOEXEC != 0 {
		p.mount = mountPoint(s.Host, path)
	}
	return p
}

// longestName is how many bytes a name in a directory may have on Linux.
const longestName = 255

// existing returns the innermost existing directory on the way to path.
func existing(h *host.Host, path string) (string, error) {
	if slices.ContainsFunc(strings.Split(path, "/"), func(name string) bool { return len(name) > longestName }) {
		return "", fmt.Errorf("%s: %w", path, unix.ENAMETOOLONG)
	}
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		info, err := h.StatTarget(p)
		switch {
		case err == nil && info.Mode.IsDir():
			return p, nil
		case err == nil:
			return "", fmt.Errorf("%s is not a directory", p)
		case errors.Is(err, unix.ENOTDIR):
			continue // a parent of it is the reason
		case !errors.Is(err, fs.ErrNotExist) || p == filepath.Dir(p):
			return "", err
		}
		if _, err := h.Stat(p); err == nil {
			return "", fmt.Errorf("%s is a symbolic link to nothing", p)
		}
	}
}

// mountPoint returns the mount point of the file system that path is or will be on
// (proc_pid_mountinfo(5)).
func mountPoint(h *host.Host, path string) string {
	best, real := "/", h.Real(path)
	content, err := h.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return best
	}
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	for line := range strings.Lines(string(content)) {
		if f := strings.Fields(line); len(f) > 4 {
			if at := unescape.Replace(f[4]); within(real, at) && len(at) >= len(best) {
				best = at
			}
		}
	}
	return best
}

// closedTo returns the directories above path that the service's user may not pass through. Under
// /root and /home the unit binds the directory into place, so that no home has to be opened.
func (s *site) closedTo(path string) []string {
	user, err := s.Host.User(serviceUser)
	if err != nil {
		user = host.Owner{UID: 65533, GID: 65533} // it will not own any directory
	}
	var closed []string
	for _, way := range s.Host.Ways(path) {
		above, err := s.Host.Closed(way, user)
		if err != nil {
			return nil // told of the place
		}
		bound := withinAny(way, "/root", "/home")
		if bound {
			above = slices.DeleteFunc(above, func(dir string) bool {
				return !within(dir, s.QuayRoot) && !within(dir, s.Host.Real(s.QuayRoot))
			})
		}
		closed = append(closed, above...)
		if len(above) > 0 || bound {
			break
		}
	}
	return closed
}

// storageNames returns the names in the store's directory of blobs.
func storageNames() []string { return []string{"sha256", "sha512", "uploads", "quarantine"} }

// hasImages reports whether a directory of blobs has any.
func hasImages(h *host.Host, storage string) bool {
	return storage != "" && slices.ContainsFunc([]string{"sha256", "sha512"}, func(dir string) bool {
		names, err := h.Names(filepath.Join(storage, dir))
		return err == nil && len(names) > 0
	})
}

// databaseNames returns the names of the database and of the files beside it. A backup from before
// a migration has the version in its name: it is one of those in the directory.
func databaseNames(database string, names []string) []string {
	base := filepath.Base(database)
	ours := []string{base}
	for _, suffix := range []string{"-wal", "-shm", "-journal", ".lock", ".reserve"} {
		ours = append(ours, base+suffix)
	}
	for _, name := range names {
		if strings.HasPrefix(name, base+".") && !slices.Contains(ours, name) {
			ours = append(ours, name)
		}
	}
	return ours
}

// withinAny reports whether path is one of dirs or lies below it.
func withinAny(path string, dirs ...string) bool {
	return slices.ContainsFunc(dirs, func(dir string) bool { return within(path, dir) })
}

// within reports whether path is dir or lies below it.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}
