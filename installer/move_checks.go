package installer

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// checkMove judges the places of a move.
func (s *site) checkMove() {
	for _, m := range s.moves {
		s.checkOverlap(m)
		p, remedy := s.placeOf(m), "move that away, and run the command again; or take the move back: appliance upgrade --rollback"
		going, _ := s.moving() // a copy that was killed is gone on with
		ours := slices.ContainsFunc(going, func(g relocation) bool { return g.To == m.To && g.From == m.From })
		if ours {
			p.ours = append(slices.Clone(p.ours), m.tree(s.Host).Unfinished(p.names)...)
		} else {
			p.ours, remedy = nil, chooseEmpty
		}
		s.checkAlone(p, remedy)
		s.checkLinks(m)
	}
	if len(s.fatal()) == 0 {
		s.checkMoveSpace()
	}
}

// checkOverlap checks that a new place is apart from those that are left, whatever names these have.
// (checkApart checks the new places.)
func (s *site) checkOverlap(m relocation) {
	for _, other := range s.moves {
		if s.overlap(other.From, m.To) {
			s.problem(fmt.Sprintf("%s %s and %s, where the %s are so far, lie in each other or are the same directory",
				m.flag(), m.To, other.From, other.what()), "choose a directory of its own")
			return
		}
	}
}

// overlap reports whether one of two directories lies in the other, by links and bind mounts too.
func (s *site) overlap(a, b string) bool {
	if within(s.Host.Real(a), s.Host.Real(b)) || within(s.Host.Real(b), s.Host.Real(a)) {
		return true
	}
	return s.hasAbove(a, b) || s.hasAbove(b, a)
}

// hasAbove reports whether dir is a directory or one of those above it.
func (s *site) hasAbove(path, dir string) bool {
	want, err := os.Stat(s.Host.Path(s.Host.Real(dir)))
	if err != nil {
		return false
	}
	for at := s.Host.Real(path); at != "/"; at = filepath.Dir(at) {
		if info, err := os.Stat(s.Host.Path(at)); err == nil && os.SameFile(info, want) {
			return true
		}
	}
	return false
}

// checkLinks checks that what moves is not elsewhere already, behind links.
func (s *site) checkLinks(m relocation) {
	for _, path := range s.links(m) {
		s.problem(path+" is a symbolic link, and what it leads to does not move", "put the directory itself in its place")
	}
}

func (s *site) links(m relocation) (paths []string) {
	names, _ := s.Host.Names(m.From)
	for _, name := range m.names(names) {
		if path := filepath.Join(m.From, name); s.isLink(path) {
			paths = append(paths, path)
		}
	}
	return paths
}

// moveRoom is what the daemon may write at a new place until it is healthy, such as its write-ahead log.
const moveRoom = 8 << 20

// checkMoveSpace checks that what is copied has space, with what pushes leave free.
func (s *site) checkMoveSpace() {
	type disk struct {
		need  uint64
		files uint64
		place place
	}
	disks := map[uint64]*disk{}
	for _, m := range s.moves {
		p := s.placeOf(m)
		if !m.Copy {
			continue
		}
		id := deviceOf(s.Host, p.dir)
		if disks[id] == nil {
			disks[id] = &disk{place: p, need: moveRoom}
		}
		disks[id].need += uint64(max(m.size.Disk-m.there.Disk, 0))
		disks[id].files += uint64(max(m.size.Files-m.there.Files, 0))
	}
	for _, d := range disks {
		p := d.place
		free, kept := s.free(p.ground)
		if p.fs.Bsize > 0 && free < d.need+kept {
			s.problem(fmt.Sprintf("%s %s has %s free, and what moves there takes %s, besides %s that pushes leave free",
				p.name, p.path, humanize.Bytes(free), humanize.Bytes(d.need), humanize.Bytes(kept)),
				"make room, or choose a directory on a larger file system")
		}
		if p.fs.Files > 0 && p.fs.Ffree < d.files {
			s.problem(fmt.Sprintf("%s %s has %d inodes free, and what moves there takes %d", p.name, p.path, p.fs.Ffree, d.files),
				"choose a directory on another file system")
		}
	}
}

// deviceOf returns the file system of a path, 0 if it is not there.
func deviceOf(h *host.Host, path string) uint64 {
	var st unix.Stat_t
	if unix.Stat(h.Path(path), &st) != nil {
		return 0
	}
	return st.Dev
}

func sameDevice(h *host.Host, a, b string) bool {
	d := deviceOf(h, a)
	return d != 0 && d == deviceOf(h, b)
}

func isFull(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
