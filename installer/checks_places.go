package installer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/systemd"
)

// place checks that a directory can be made, and used, where it is wanted.
type place struct {
	host *host.Host
	name string // the flag, or what it is
	path string
}

func (c place) Check(ctx context.Context) []Problem {
	if err := systemd.CheckPath(c.path); err != nil {
		return found(c.name+": "+err.Error(), hintOf(err, "choose a path of letters, digits and . _ - / only"))
	}
	for _, way := range c.host.Ways(c.path) {
		if problems := c.checkWay(way); len(problems) > 0 {
			return problems
		}
	}
	return writable{c}.Check(ctx)
}

// checkWay checks one of the names by which the directory is reached.
func (c place) checkWay(way string) []Problem {
	name := c.name + " " + c.path
	if way != filepath.Clean(c.path) {
		name += fmt.Sprintf(" (by a link: %s)", way)
	}
	for _, volatile := range []string{"/tmp", "/var/tmp"} {
		if within(way, volatile) {
			return found(fmt.Sprintf("%s lies in %s, which is emptied from time to time and which the service does not see", name, volatile),
				"choose a lasting directory, such as /opt/quay-install")
		}
	}
	var protected *host.ProtectedError
	if err := c.host.Removable(way); errors.As(err, &protected) {
		return found(fmt.Sprintf("%s cannot be used: it is %s", name, protected.Reason), place{c.host, c.name, way}.better())
	} else if err != nil {
		return found(fmt.Sprintf("%s cannot be used: %v", name, err), "choose another directory")
	}
	return nil
}

// better returns a remedy for a directory that others share.
func (c place) better() string {
	if host.InSystemDir(c.path) || c.path == "/" {
		return "choose a directory that is not the operating system's, such as /opt/quay-install"
	}
	return "choose a directory of its own below it, such as " + filepath.Join(c.path, "quay-install")
}

// existing returns the innermost existing directory on the way to path.
func (c place) existing() (string, error) {
	for p := filepath.Clean(c.path); ; p = filepath.Dir(p) {
		info, err := c.host.StatTarget(p)
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
		if _, err := c.host.Stat(p); err == nil {
			return "", fmt.Errorf("%s is a symbolic link to nothing", p)
		}
	}
}

// writable checks that the directory exists or can be made, and can be written to.
type writable struct{ place }

func (c writable) Check(context.Context) []Problem {
	dir, err := c.existing()
	if err != nil {
		return found(fmt.Sprintf("%s %s cannot be used: %v", c.name, c.path, err), "choose another directory, or correct this one")
	}
	err = unix.Faccessat(unix.AT_FDCWD, c.host.Path(dir), unix.W_OK|unix.X_OK, unix.AT_EACCESS)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EROFS):
		return found(fmt.Sprintf("%s %s cannot be written to: %s is on a read-only file system", c.name, c.path, dir), "choose a directory on another file system, or mount that one writable")
	}
	return found(fmt.Sprintf("%s %s cannot be written to: %s: %v", c.name, c.path, dir, err),
		"choose a directory of your own, or run the command as its owner: ls -ld "+dir)
}

// statfs describes the file system that path is or will be on. ok is false if another check has the reason.
func (c place) statfs() (st unix.Statfs_t, ok bool) {
	dir, err := c.existing()
	if err != nil {
		return st, false
	}
	return st, unix.Statfs(c.host.Path(dir), &st) == nil
}

// owners checks that the file system has owners and permissions, without which secrets are open.
type owners struct{ place }

func (c owners) Check(context.Context) []Problem {
	st, ok := c.statfs()
	if !ok {
		return nil
	}
	name, bad := map[int64]string{unix.MSDOS_SUPER_MAGIC: "FAT", unix.EXFAT_SUPER_MAGIC: "exFAT", 0x5346544e: "NTFS", 0x7366746e: "NTFS"}[int64(st.Type)]
	if !bad {
		return nil
	}
	return found(fmt.Sprintf("%s %s is on a %s file system, which keeps no owners and permissions", c.name, c.path, name), "choose a directory on xfs, ext4 or btrfs")
}

// localDisk checks that the file system has what SQLite's write-ahead log needs: shared memory and reliable locks.
type localDisk struct{ place }

func (c localDisk) Check(context.Context) []Problem {
	st, ok := c.statfs()
	if !ok {
		return nil
	}
	name, bad := map[int64]string{
		unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "SMB", unix.SMB2_SUPER_MAGIC: "SMB",
		unix.CEPH_SUPER_MAGIC: "Ceph", unix.AFS_SUPER_MAGIC: "AFS", unix.V9FS_MAGIC: "9p",
	}[int64(st.Type)]
	if !bad {
		return nil
	}
	return found(fmt.Sprintf("%s %s is on a network file system (%s), where a SQLite database is damaged sooner or later", c.name, c.path, name),
		"choose a directory on a disk of this host; the images (--quayStorage) may stay where they are")
}

// executes checks that programs may be started from the directory.
type executes struct{ place }

func (c executes) Check(context.Context) []Problem {
	st, ok := c.statfs()
	if !ok || st.Flags&unix.ST_NOEXEC == 0 {
		return nil
	}
	mount := mountPoint(c.host, c.path)
	return found(fmt.Sprintf("%s %s is on a file system from which nothing may be executed (noexec), that of %s", c.name, c.path, mount),
		fmt.Sprintf("mount it without noexec: sudo mount -o remount,exec %s (and in /etc/fstab); or, without root so far, install with sudo, which uses /usr/local/bin", mount))
}

// mountPoint returns the mount point of the file system that path is or will be on (proc_pid_mountinfo(5)).
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

// space checks that the file system has space to begin with.
type space struct {
	place
	need uint64
}

func (c space) Check(context.Context) []Problem {
	st, ok := c.statfs()
	if !ok {
		return nil
	}
	free := st.Bavail * uint64(st.Bsize)
	if free >= c.need {
		return nil
	}
	return found(fmt.Sprintf("%s %s has %d MiB free and needs %d MiB, without any image", c.name, c.path, free>>20, c.need>>20),
		"make room, or choose a directory on a larger file system")
}

// passable checks that the service's user can get to the directory. Under /root and /home the unit binds it into place, so
// that no home has to be opened; elsewhere the directories above have to let the user pass.
type passable struct {
	place
	root string // quayRoot, which keeps its mode
}

func (c passable) Check(context.Context) []Problem {
	user, err := c.host.User(serviceUser)
	if err != nil {
		user = host.Owner{UID: 65533, GID: 65533} // it will not own any directory
	}
	var closed []string
	for _, way := range c.host.Ways(c.path) {
		var above []string
		if above, err = c.host.Closed(way, user); err != nil {
			break
		}
		if root := c.host.Real(c.root); within(way, "/root") || within(way, "/home") {
			above = slices.DeleteFunc(above, func(dir string) bool { return !within(dir, c.root) && !within(dir, root) })
		}
		closed = append(closed, above...)
		if len(above) > 0 || within(way, "/root") || within(way, "/home") {
			break // from there the unit binds it into place
		}
	}
	if err != nil || len(closed) == 0 {
		return nil // an error is place's to tell
	}
	return found(fmt.Sprintf("the service's user may not pass through %s to %s", closed[0], c.path),
		fmt.Sprintf("allow it: sudo chmod o+x %s; or choose a directory elsewhere, such as /opt/quay-install", strings.Join(closed, " ")))
}

// apart checks that blobs and database do not share a directory.
type apart struct {
	host              *host.Host
	storage, database string
}

func (c apart) Check(context.Context) []Problem {
	storage, database := c.host.Real(c.storage), c.host.Real(c.database)
	if !within(storage, database) && !within(database, storage) {
		return nil
	}
	return found(fmt.Sprintf("--quayStorage %s and --sqliteStorage %s lie in each other", c.storage, c.database), "choose two directories side by side")
}

// storageNames returns the names in the store's directory of blobs.
func storageNames() []string { return []string{"sha256", "sha512", "uploads", "quarantine"} }

// databaseNames returns the names of the database and of the files beside it, now or once it runs. A backup from before a
// migration has the version in its name, so that it has to be looked for.
func databaseNames(h *host.Host, database string) []string {
	base := filepath.Base(database)
	ours := []string{base, base + "-wal", base + "-shm", base + "-journal", base + ".lock", base + ".reserve"}
	names, err := h.Names(filepath.Dir(database))
	if err != nil {
		return ours // not there; or place says why not
	}
	for _, name := range names {
		if strings.HasPrefix(name, base+".") && !slices.Contains(ours, name) {
			ours = append(ours, name)
		}
	}
	return ours
}

// storageContent checks that the directory of the blobs has no other files, and no blobs without the database that knows
// them: the first collection would remove them.
type storageContent struct {
	host          *host.Host
	dir, database string
}

func (c storageContent) Check(context.Context) []Problem {
	if others := foreignNames(c.host, c.dir, storageNames()); len(others) > 0 {
		return found(fmt.Sprintf("--quayStorage %s holds other things already (%s)", c.dir, list(others)), "choose an empty directory, or one that does not exist")
	}
	if known, err := c.host.Exists(c.database); err != nil || known {
		return nil
	}
	for _, name := range []string{"sha256", "sha512"} {
		if names, err := c.host.Names(filepath.Join(c.dir, name)); err == nil && len(names) > 0 {
			return found(fmt.Sprintf("--quayStorage %s holds images, but there is no database %s that knows them", c.dir, c.database),
				"name the directory of its database with --sqliteStorage; taking over the storage of Quay is not built yet, so otherwise choose an empty directory")
		}
	}
	return nil
}

// databaseContent checks that the directory of the database has no other files.
type databaseContent struct {
	host     *host.Host
	database string
}

func (c databaseContent) Check(context.Context) []Problem {
	dir := filepath.Dir(c.database)
	others := foreignNames(c.host, dir, databaseNames(c.host, c.database))
	if len(others) == 0 {
		return nil
	}
	remedy := "choose an empty directory, or one that does not exist"
	for _, name := range others {
		if strings.HasPrefix(name, "quay_sqlite.db") {
			remedy = "that is the database of a mirror-registry, and taking it over is not built yet: choose an empty directory"
		}
	}
	return found(fmt.Sprintf("--sqliteStorage %s holds other things already (%s)", dir, list(others)), remedy)
}

// alone checks that a directory that the service gets as a whole has no other files.
type alone struct {
	place
	ours []string
}

func (c alone) Check(context.Context) []Problem {
	others := foreignNames(c.host, c.path, c.ours)
	if len(others) == 0 {
		return nil
	}
	return found(fmt.Sprintf("%s %s holds other things already (%s)", c.name, c.path, list(others)), "choose an empty directory, or one that does not exist")
}

func foreignNames(h *host.Host, dir string, ours []string) []string {
	names, err := h.Names(dir)
	if err != nil {
		return nil // not there; or place says why not
	}
	var others []string
	for _, name := range names {
		if name != "lost+found" && !slices.Contains(ours, name) {
			others = append(others, name)
		}
	}
	return others
}

func list(names []string) string {
	if len(names) > 3 {
		names = append(names[:3:3], "…")
	}
	return strings.Join(names, ", ")
}

// mirrorRegistry checks that the host has no Quay of a mirror-registry.
type mirrorRegistry struct {
	host     *host.Host
	unitDir  string
	quayRoot string
}

func (c mirrorRegistry) Check(context.Context) []Problem {
	const remedy = "taking over a mirror-registry is not built yet: remove it with mirror-registry uninstall, or install on another host"
	for _, unit := range []string{"quay-app.service", "quay-pod.service", "quay-redis.service", "quay-postgres.service"} {
		path := filepath.Join(c.unitDir, unit)
		if info, err := c.host.Stat(path); err == nil && info.Mode.IsRegular() {
			return found(fmt.Sprintf("a mirror-registry is installed on this host (%s)", path), remedy)
		}
	}
	if !filepath.IsAbs(c.quayRoot) {
		return nil
	}
	path := filepath.Join(c.quayRoot, "quay-config", "config.yaml")
	if content, err := c.host.ReadFile(path); err == nil && isQuayConfig(content) {
		return found(fmt.Sprintf("%s is the configuration of a mirror-registry (Quay)", path), remedy+", or choose another --quayRoot")
	}
	return nil
}

// isQuayConfig recognizes Quay's configuration by keys that it always has. The appliance's has one of them too, for scripts,
// beside keys of its own.
func isQuayConfig(content []byte) bool {
	quay := false
	for line := range strings.Lines(string(content)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "DB_URI":
			return true
		case "SERVER_HOSTNAME":
			quay = true
		case "hostname", "controlSocket":
			return false
		}
	}
	return quay
}
