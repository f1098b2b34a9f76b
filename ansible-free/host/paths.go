package host

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Ways returns the names by which path is reached: path, the name after each symbolic link, and at
// last the one without links. It trusts all links: its answer is for messages and units.
func (h *Host) Ways(path string) []string {
	ways := []string{filepath.Clean(path)}
	for range maxLinks {
		next, ok := h.firstLink(ways[len(ways)-1])
		if !ok {
			break
		}
		ways = append(ways, next)
	}
	return ways
}

// Real returns the last of Ways.
func (h *Host) Real(path string) string {
	ways := h.Ways(path)
	return ways[len(ways)-1]
}

// firstLink replaces the first link in path by its target.
func (h *Host) firstLink(path string) (string, bool) {
	at := "/"
	names := elements(path)
	for i, name := range names {
		at = filepath.Join(at, name)
		if target, err := os.Readlink(h.Path(at)); err == nil {
			return onward(at, target, names[i+1:]), true
		}
	}
	return "", false
}

// elements returns the names in a path.
func elements(path string) []string {
	return strings.FieldsFunc(path, func(r rune) bool { return r == '/' })
}

// onward returns the path to which a link and the names behind it lead.
func onward(link, target string, names []string) string {
	if !filepath.IsAbs(target) {
		target = filepath.Join(filepath.Dir(link), target)
	}
	return filepath.Join(append([]string{target}, names...)...)
}

// Missing returns those of path and its parents that do not exist, outermost first.
func (h *Host) Missing(path string) ([]string, error) {
	var missing []string
	for p := filepath.Clean(path); ; p = filepath.Dir(p) {
		ok, err := h.Exists(p)
		if err != nil {
			return nil, err
		}
		if ok || p == filepath.Dir(p) {
			slices.Reverse(missing)
			return missing, nil
		}
		missing = append(missing, p)
	}
}

// Closed returns the existing directories above path that user may not pass through, innermost
// first. It judges by owner, group and mode, and ignores access lists.
func (h *Host) Closed(path string, user Owner) ([]string, error) {
	var closed []string
	for dir := filepath.Dir(filepath.Clean(path)); ; dir = filepath.Dir(dir) {
		info, err := h.StatTarget(dir)
		if err != nil && !absent(err) {
			return nil, err
		}
		if err == nil && info.Mode.IsDir() && !info.searchable(user) {
			closed = append(closed, dir)
		}
		if dir == filepath.Dir(dir) {
			return closed, nil
		}
	}
}

func (i Info) searchable(user Owner) bool {
	switch perm := i.Mode.Perm(); {
	case user.UID == i.Owner.UID:
		return perm&0o100 != 0
	case user.GID == i.Owner.GID:
		return perm&0o010 != 0
	default:
		return perm&0o001 != 0
	}
}

// SystemDir reports whether path is "/" or a directory that every host has. An install is not put
// right into one, and does not remove one.
func SystemDir(path string) bool {
	path = filepath.Clean(path)
	return path == "/" || InSystemDir(path) || slices.Contains([]string{
		"/home", "/opt", "/srv", "/mnt", "/media", "/data", "/usr/local", "/usr/local/bin",
		"/usr/local/sbin", "/var", "/var/lib", "/var/opt", "/var/tmp", "/var/home", "/var/roothome",
		"/var/mnt", "/var/srv", "/tmp", "/root",
	}, path)
}

// InSystemDir reports whether path is, or is below, a directory of the operating system.
func InSystemDir(path string) bool {
	path = filepath.Clean(path)
	return path == "/usr" || slices.ContainsFunc([]string{
		"/bin", "/boot", "/dev", "/etc", "/lib", "/lib32", "/lib64", "/libx32", "/lost+found", "/proc",
		"/run", "/sbin", "/sys", "/usr/bin", "/usr/etc", "/usr/include", "/usr/lib", "/usr/lib64",
		"/usr/libexec", "/usr/sbin", "/usr/share", "/sysroot", "/ostree",
	}, func(dir string) bool { return path == dir || strings.HasPrefix(path, dir+"/") })
}
