package installer

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/systemd"
)

// Space that a directory needs without images.
const (
	storageSpace  = 1 << 30
	databaseSpace = 256 << 20
	binarySpace   = 128 << 20
)

// checkPlaces checks the directories that are written to.
func (s *site) checkPlaces() {
	s.checkPlace(s.dirs.root)
	s.checkOwners(s.dirs.root)
	s.checkAbove()
	s.checkChanger()
	reached := []place{s.dirs.root}
	for _, p := range s.halves() {
		if !within(p.path, s.QuayRoot) {
			s.checkPlace(p)
			s.checkOwners(p)
			reached = append(reached, p)
		}
	}
	for _, p := range s.dirs.own {
		outside := !within(p.path, s.QuayRoot)
		if outside {
			s.checkPlace(p)
		}
		// A directory of the system or a home needs no list of what it has.
		if (outside || s.unit == nil && s.record == nil) && p.protected == nil {
			s.checkAlone(p, chooseEmpty)
		}
	}
	s.checkWritable(s.dirs.bin)
	s.checkExecutes(s.dirs.bin)
	s.checkWritable(s.dirs.units)
	s.checkLocalDisk(s.dirs.database)
	if s.unit == nil {
		for _, part := range []struct {
			place
			need uint64
		}{{s.dirs.storage, storageSpace}, {s.dirs.database, databaseSpace}} {
			_, kept := s.free(part.ground)
			s.checkSpace(part.place, part.need+kept)
		}
		s.checkSpace(s.dirs.bin, binarySpace)
		s.checkContentSpace(s.dirs.storage)
		s.checkInodes(s.dirs.storage)
	} else {
		s.checkUpgradeSpace()
	}
	if !s.User {
		for _, p := range reached {
			s.checkPassable(p)
		}
	}
}

// checkPlace checks that a directory can be made, and used, where it is wanted.
func (s *site) checkPlace(p place) {
	if err := systemd.CheckPath(p.path); err != nil {
		s.problem(p.name+": "+err.Error(), hint.Of(err))
		return
	}
	for _, way := range p.ways {
		for _, volatile := range []string{"/tmp", "/var/tmp"} {
			if within(way, volatile) {
				s.problem(fmt.Sprintf("%s lies in %s, which is emptied from time to time and which the "+
					"service does not see", p.by(way), volatile),
					"choose a lasting directory, such as /opt/quay-install")
				return
			}
		}
	}
	if p.protected == nil {
		s.checkWritable(p)
		return
	}
	remedy := "choose a directory of its own below it, such as " +
		filepath.Join(p.shared, "quay-install")
	if host.InSystemDir(p.shared) || p.shared == "/" {
		remedy = "choose a directory that is not the operating system's, such as /opt/quay-install"
	}
	s.problem(fmt.Sprintf("%s cannot be used: %v", p.by(p.shared), p.protected), remedy)
}

// by names the place, with the way by which it is reached.
func (p place) by(way string) string {
	if way == filepath.Clean(p.path) {
		return p.name + " " + p.path
	}
	return fmt.Sprintf("%s %s (by a link: %s)", p.name, p.path, way)
}

// checkWritable checks that the directory exists or can be made, and can be written to.
func (s *site) checkWritable(p place) {
	what := p.name + " " + p.path
	switch {
	case p.err != nil:
		s.problem(fmt.Sprintf("%s cannot be used: %v", what, p.err),
			"choose another directory, or correct this one")
	case errors.Is(p.access, unix.EROFS):
		s.problem(fmt.Sprintf("%s cannot be written to: %s is on a read-only file system", what, p.dir),
			"choose a directory on another file system, or mount that one writable")
	case p.access != nil:
		s.problem(fmt.Sprintf("%s cannot be written to: %s: %v", what, p.dir, p.access),
			"choose a directory of your own, or run the command as its owner: ls -ld "+p.dir)
	}
}

// checkChanger checks that no other user can change quayRoot before anything is installed there. A
// configuration that was the service's own is taken over by an install that finds it.
func (s *site) checkChanger() {
	if s.changer != nil && s.unit == nil && s.record == nil {
		s.problem(fmt.Sprintf("--quayRoot %s: several users can change %s, and put something else in "+
			"its place", s.QuayRoot, s.changer.Path),
			"make it your own, and close it to them: chmod go-w "+s.changer.Path+"; or choose another directory")
	}
}

// checkAbove checks that no other user can change a directory on the way to quayRoot: to root's
// commands, the configuration is then not root's.
func (s *site) checkAbove() {
	switch other := s.dirs.above; {
	case other == nil:
	case other.UID < 0:
		s.problem(fmt.Sprintf("--quayRoot %s: several users can change %s, and put something else in "+
			"its place", s.QuayRoot, other.Path),
			"close it to them: chmod go-w "+other.Path+"; or choose another directory")
	default:
		s.warn(fmt.Sprintf("--quayRoot %s lies in %s, whose user %s can put something else in its place",
			s.QuayRoot, other.Path, s.Host.UserName(other.UID)), "go on if that user may decide what the "+
			"registry is; otherwise choose a directory of root's, such as /opt/quay-install")
	}
}

// checkOwners checks that the file system has owners and permissions, without which secrets are
// open.
func (s *site) checkOwners(p place) {
	if kind := map[int64]string{
		unix.MSDOS_SUPER_MAGIC: "FAT", unix.EXFAT_SUPER_MAGIC: "exFAT", 0x5346544e: "NTFS",
		0x7366746e: "NTFS",
	}[int64(p.fs.Type)]; kind != "" {
		s.problem(fmt.Sprintf("%s %s is on a %s file system, which keeps no owners and permissions",
			p.name, p.path, kind), "choose a directory on xfs, ext4 or btrfs")
	}
}

// checkLocalDisk checks that the file system has what SQLite's write-ahead log needs: shared memory
// and reliable locks.
func (s *site) checkLocalDisk(p place) {
	if kind := networkKind(p.fs); kind != "" {
		s.problem(fmt.Sprintf("%s %s is on a network file system (%s), where a SQLite database is "+
			"damaged sooner or later", p.name, p.path, kind), "choose a directory on a disk of this host; the "+
			"images (--quayStorage) may stay where they are")
	}
}

// networkKind returns the kind of a network file system, "" for another.
func networkKind(system unix.Statfs_t) string {
	return map[int64]string{
		unix.NFS_SUPER_MAGIC: "NFS", unix.SMB_SUPER_MAGIC: "SMB", unix.CIFS_SUPER_MAGIC: "SMB",
		unix.SMB2_SUPER_MAGIC: "SMB", unix.CEPH_SUPER_MAGIC: "Ceph", unix.AFS_SUPER_MAGIC: "AFS",
		unix.V9FS_MAGIC: "9p",
	}[int64(system.Type)]
}

// checkExecutes checks that programs may be started from the directory.
func (s *site) checkExecutes(p place) {
	if p.mount != "" {
		s.problem(fmt.Sprintf("%s %s is on a file system from which nothing may be executed (noexec), "+
			"that of %s", p.name, p.path, p.mount), "mount it without noexec: sudo mount -o "+
			"remount,exec "+p.mount+" (and in /etc/fstab); or, without root so far, install with sudo, which uses /usr/local/bin")
	}
}

// What the images of OpenShift take, by the documentation of Red Hat's mirror registry.
const (
	releaseSpace   = 17e9  // of one release
	operatorsSpace = 358e9 // of the operators of all catalogs of one version
)

// checkContentSpace warns where not even one release has space.
func (s *site) checkContentSpace(p place) {
	free, kept := s.free(p.ground)
	if p.fs.Bsize > 0 && free < releaseSpace+kept {
		s.warn(fmt.Sprintf("%s %s has %s free, besides %s that pushes leave free: a release of OpenShift takes about %s, all operators %s",
			p.name, p.path, humanize.Bytes(free-min(free, kept)), humanize.Bytes(min(free, kept)),
			humanize.Bytes(releaseSpace), humanize.Bytes(operatorsSpace)),
			"choose a directory on a larger file system, if more than a few images are to be mirrored")
	}
}

// checkInodes checks that there are files to be had. File systems without a limit have a number of 0.
func (s *site) checkInodes(p place) {
	if p.fs.Files > 0 && p.fs.Ffree < p.fs.Files/100 {
		s.problem(fmt.Sprintf("%s %s has %d of %d inodes free", p.name, p.path, p.fs.Ffree, p.fs.Files),
			"remove files that are not needed, or choose a directory on another file system")
	}
}

// checkSpace checks that the file system has space to begin with.
func (s *site) checkSpace(p place, need uint64) {
	free := p.fs.Bavail * uint64(p.fs.Bsize)
	if p.fs.Bsize > 0 && free < need {
		s.problem(fmt.Sprintf("%s %s has %d MiB free and needs %d MiB, without any image",
			p.name, p.path, free>>20, need>>20),
			"make room, or choose a directory on a larger file system")
	}
}

// checkPassable checks that the service's user can get to the directory.
func (s *site) checkPassable(p place) {
	if len(p.closed) > 0 {
		s.problem(fmt.Sprintf("the service's user may not pass through %s to %s", p.closed[0], p.path),
			fmt.Sprintf("allow it: sudo chmod o+x %s; or choose a directory elsewhere, such as "+
				"/opt/quay-install", strings.Join(p.closed, " ")))
	}
}

// checkApart checks that blobs and database do not share a directory.
func (s *site) checkApart() {
	if len(s.halves()) < 2 {
		return
	}
	real := func(p place) string { return p.ways[len(p.ways)-1] }
	blobs, db := real(s.dirs.storage), real(s.dirs.database)
	if within(blobs, db) || within(db, blobs) {
		s.problem(fmt.Sprintf("--quayStorage %s and --sqliteStorage %s lie in each other",
			s.dirs.storage.path, s.dirs.database.path), "choose two directories side by side")
	}
}

// lostStore is the remedy where something of a store is missing.
const lostStore = "mount the file system that has it, or restore a backup: appliance restore"

const beginAnew = "; to begin anew, remove what is left: appliance uninstall"

// checkMounted checks that the installed appliance has its directories, and reports whether it lacks one.
// Where a disk is not mounted, another store must not begin in its place, on the file system below.
func (s *site) checkMounted() bool {
	found := len(s.problems)
	if s.unit == nil {
		return false
	}
	if !s.kept {
		if dir := s.confDir(); s.QuayRoot == s.unit.QuayRoot && !s.has(dir) {
			s.problem(fmt.Sprintf("%s, where the appliance of %s has its configuration, does not exist", dir, s.unit.Unit),
				"mount the file system that has it"+beginAnew)
		}
		return len(s.problems) > found
	}
	storage, database := s.cfg.Storage, cmp.Or(s.databaseBefore, s.cfg.Database)
	for _, m := range s.moves {
		if m.File == "" {
			storage = m.From
		}
	}
	if s.edited(storage, database) { // what is named there may be made
		return false
	}
	var dirs []string
	if !s.inBucket() {
		dirs = append(dirs, storage)
	}
	if !s.onServer() {
		dirs = append(dirs, filepath.Dir(database))
	}
	for _, dir := range dirs {
		if ok, err := s.Host.Exists(dir); err == nil && !ok {
			s.problem(dir+", where the appliance has its content, does not exist", lostStore+beginAnew)
		}
	}
	if len(s.problems) > found || s.checkHalves(storage, database) {
		return true
	}
	if ok, err := s.Host.Exists(database); s.recorded && !s.onServer() && err == nil && !ok {
		s.problem("the database "+database+" does not exist", lostStore+beginAnew)
	}
	return len(s.problems) > found
}

// edited reports whether config.yaml names other directories of this host than the last install.
func (s *site) edited(storage, database string) bool {
	r := s.record
	return r != nil && (!s.inBucket() && r.Storage != "" && r.Storage != storage ||
		!s.onServer() && r.Database != "" && r.Database != filepath.Dir(database))
}

// checkHalves checks that neither the images nor the database that knows them are lost, and reports whether
// one is.
func (s *site) checkHalves(storage, database string) bool {
	if s.inBucket() {
		return false
	}
	known, err := s.Host.Exists(database)
	known = known || s.onServer()
	made, madeErr := s.Host.Exists(filepath.Join(storage, "sha256"))
	switch {
	case err != nil || madeErr != nil: // told of the places
	case !known && hasImages(s.Host, storage):
		s.problem(fmt.Sprintf("the database %s does not exist, and %s has images", database, storage), lostStore)
		return true
	case known && !made:
		s.problem(fmt.Sprintf("the directory of the blobs %s has no sha256: it is not the one of this database", storage), lostStore)
		return true
	}
	return false
}

// checkContent checks that the directories of blobs and database have no other files, unless an install
// has made them its own, and that there are no blobs without the database that knows them: the first
// collection would remove them.
func (s *site) checkContent() {
	others := !s.inBucket() && (s.record == nil || s.record.Storage != s.cfg.Storage)
	if !(others && s.checkAlone(s.dirs.storage, chooseEmpty)) && !s.onServer() && !s.dirs.known && s.dirs.images {
		s.problem(fmt.Sprintf("--quayStorage %s holds images, but there is no database %s that knows "+
			"them", s.dirs.storage.path, s.cfg.Database), "name the directory of its database with "+
			"--sqliteStorage; otherwise choose an empty directory; appliance adopt takes over the storage of Quay")
	}
	if !s.onServer() && (s.record == nil || s.record.Database != s.databaseDir()) {
		s.checkAlone(s.dirs.database, chooseEmpty)
	}
}

const chooseEmpty = "choose an empty directory, or one that does not exist"

// checkAlone checks that a directory has no files but the appliance's, and reports whether it has.
func (s *site) checkAlone(p place, remedy string) bool {
	others := foreignNames(p.names, p.ours)
	if len(others) == 0 {
		return false
	}
	if slices.ContainsFunc(others, isQuayDatabase) {
		remedy = "that is the database of a mirror-registry: choose an empty directory; " +
			"appliance install --adopt takes over what it has"
	}
	if len(others) > 3 {
		others = append(others[:3:3], "…")
	}
	s.problem(fmt.Sprintf("%s %s holds other things already (%s)",
		p.name, p.path, strings.Join(others, ", ")), remedy)
	return true
}

func isQuayDatabase(name string) bool { return strings.HasPrefix(name, "quay_sqlite.db") }

func foreignNames(names, ours []string) []string {
	return slices.DeleteFunc(slices.Clone(names), func(name string) bool {
		return name == "lost+found" || slices.Contains(ours, name)
	})
}
