package powercut

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// disk is what a directory has: what every program sees, and what is sure to be there after a power cut.
type disk struct {
	dir   string
	calls map[uint64]form
	now   map[string]*node // by the path beneath dir
	sure  map[string]*node // what of now was synced
	since []change         // of names, after sure
}

// node is a file or a directory.
type node struct {
	directory bool
	link      string // of a symbolic link
	mode      fs.FileMode
	synced    []byte
	since     []write
}

// write is one that was not synced.
type write struct {
	offset int64
	data   []byte
	size   int64 // of the file, for one that truncates or extends it; -1: neither
}

// change is one of names. Of a rename, from is the name that goes.
type change struct {
	name, from string
	node       *node // nil: the name goes
}

func newDisk(dir string) (*disk, error) {
	d := &disk{dir: dir, calls: calls(), now: map[string]*node{}, sure: map[string]*node{}}
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || path == dir || transient(path) {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		n := &node{directory: e.IsDir(), mode: info.Mode().Perm()}
		switch {
		case e.Type().IsRegular():
			n.synced, err = os.ReadFile(path)
		case e.Type() == fs.ModeSymlink:
			n.link, err = os.Readlink(path)
		case !e.IsDir():
			return nil
		}
		d.now[path], d.sure[path] = n, n
		return err
	})
	return d, err
}

// transient reports whether a file has nothing that a power cut leaves.
func transient(path string) bool { return strings.HasSuffix(path, "-shm") }

func (d *disk) has(path string) bool {
	return strings.HasPrefix(path, d.dir+"/") && !transient(path) && !strings.HasSuffix(path, " (deleted)") || path == d.dir
}

// did records a call that has succeeded.
func (d *disk) did(pid int, c *call) error {
	switch c.kind {
	case writes:
		return d.wrote(pid, c)
	case syncs:
		d.sync(c.path)
	case syncsAll:
		for _, n := range d.now {
			n.sync()
		}
		d.sure, d.since = maps.Clone(d.now), nil
	case truncates, allocates:
		return d.resized(c)
	case opens:
		d.opened(pid, c)
	case links:
		if n := d.now[c.path]; n != nil {
			d.change(change{name: c.to, node: n})
		}
	case renames:
		return d.renamed(c)
	case removes:
		if d.now[c.path] != nil {
			d.change(change{name: c.path})
		}
	case makesDirectory:
		d.change(change{name: c.path, node: &node{directory: true, mode: 0o700}})
	}
	return nil
}

func (d *disk) change(c change) {
	d.since = append(d.since, c)
	c.apply(d.now)
}

func (c change) apply(names map[string]*node) {
	if c.from != "" && names[c.from] == c.node { // or another is there by now
		delete(names, c.from)
	}
	if c.node == nil {
		delete(names, c.name)
		return
	}
	names[c.name] = c.node
}

func (d *disk) renamed(c *call) error {
	n := d.now[c.path]
	switch {
	case n == nil:
		return nil // from elsewhere, or a socket
	case n.directory:
		return fmt.Errorf("%s is a directory that is renamed", c.path)
	case !d.has(c.to):
		d.change(change{name: c.path})
	default:
		d.change(change{name: c.to, from: c.path, node: n})
	}
	return nil
}

func (d *disk) opened(pid int, c *call) {
	path := opened(pid, c.result)
	n := d.now[path]
	switch {
	case !d.has(path) || !isFile(pid, c.result):
	case n == nil:
		mode := fs.FileMode(0o600)
		if info, err := os.Lstat(path); err == nil {
			mode = info.Mode().Perm()
		}
		d.change(change{name: path, node: &node{mode: mode}})
	case c.args[c.flags]&unix.O_TRUNC != 0:
		n.since = append(n.since, write{size: 0})
	}
}

// wrote reads what a call has written from the file: no other call writes meanwhile.
func (d *disk) wrote(pid int, c *call) error {
	n := d.now[c.path]
	if n == nil || c.result == 0 {
		return nil
	}
	f, err := os.Open(c.path)
	if err != nil {
		return err
	}
	defer f.Close()
	offset, err := d.offset(pid, c)
	data := make([]byte, c.result)
	if err == nil {
		_, err = f.ReadAt(data, offset)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read what was written to %s: %w", c.path, err)
	}
	n.since = append(n.since, write{offset: offset, data: data, size: -1})
	return nil
}

// offset returns where a call has written.
func (d *disk) offset(pid int, c *call) (int64, error) {
	switch c.number {
	case unix.SYS_PWRITE64, unix.SYS_PWRITEV, unix.SYS_PWRITEV2:
		return int64(c.args[3]), nil
	case unix.SYS_SPLICE, unix.SYS_COPY_FILE_RANGE:
		if c.args[3] != 0 {
			return 0, fmt.Errorf("%s is written by a call that names its place in memory", c.path)
		}
	}
	info, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", pid, int32(c.args[c.fd])))
	if err != nil {
		return 0, err
	}
	var at int64
	if _, err := fmt.Sscanf(string(info), "pos:\t%d", &at); err != nil {
		return 0, err
	}
	return at - int64(c.result), nil
}

func (d *disk) resized(c *call) error {
	n := d.now[c.path]
	if n == nil {
		return nil
	}
	size := int64(c.args[1])
	if c.kind == allocates {
		const punch = unix.FALLOC_FL_PUNCH_HOLE | unix.FALLOC_FL_COLLAPSE_RANGE | unix.FALLOC_FL_ZERO_RANGE | unix.FALLOC_FL_INSERT_RANGE
		if c.args[1]&punch != 0 {
			return fmt.Errorf("%s gets a hole", c.path)
		}
		if c.args[1]&unix.FALLOC_FL_KEEP_SIZE != 0 {
			return nil
		}
		size = max(n.size(), int64(c.args[2]+c.args[3]))
	}
	n.since = append(n.since, write{size: size})
	return nil
}

// sync makes sure a file, or the names of a directory.
func (d *disk) sync(path string) {
	if n := d.now[path]; n != nil && !n.directory {
		n.sync()
		return
	}
	d.since = slices.DeleteFunc(d.since, func(c change) bool {
		if filepath.Dir(c.name) != path {
			return false
		}
		c.apply(d.sure)
		return true
	})
}

func (n *node) sync() {
	for _, w := range n.since {
		n.synced = w.apply(n.synced)
	}
	n.since = nil
}

func (n *node) size() int64 {
	size := int64(len(n.synced))
	for _, w := range n.since {
		if size = max(size, w.offset+int64(len(w.data))); w.size >= 0 {
			size = w.size
		}
	}
	return size
}

func (w write) apply(content []byte) []byte {
	if w.size >= 0 {
		return resize(content, w.size)
	}
	if end := w.offset + int64(len(w.data)); end > int64(len(content)) {
		content = resize(content, end)
	}
	copy(content[w.offset:], w.data)
	return content
}

func resize(content []byte, size int64) []byte {
	if size <= int64(len(content)) {
		return content[:size:size]
	}
	return append(content, make([]byte, size-int64(len(content)))...)
}

// Leave writes to a directory, which may be that of the process, what a disk may have after the cut. random
// decides what of all that was not synced is there.
func (p *Process) Leave(dir string, random *rand.Rand) error {
	<-p.ended
	if err := p.Err(); err != nil {
		return err
	}
	return p.disk.leave(dir, random)
}

func (d *disk) leave(dir string, random *rand.Rand) error {
	names := maps.Clone(d.sure)
	much := random.IntN(3) // of what was not synced: nothing, all, some
	last := 0
	switch much {
	case 1:
		last = len(d.since)
	case 2:
		last = random.IntN(len(d.since) + 1)
	}
	for _, c := range d.since[:last] {
		c.apply(names)
	}
	old, err := os.ReadDir(dir)
	for _, e := range old {
		if err == nil {
			err = os.RemoveAll(filepath.Join(dir, e.Name()))
		}
	}
	for _, path := range slices.Sorted(maps.Keys(names)) { // directories before what they have
		if err == nil {
			err = names[path].leave(dir+strings.TrimPrefix(path, d.dir), much, random)
		}
	}
	return err
}

func (n *node) leave(path string, much int, random *rand.Rand) error {
	if _, err := os.Lstat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
		return nil // its directory was not synced
	}
	if n.directory {
		return os.Mkdir(path, n.mode|0o700)
	}
	if n.link != "" {
		return os.Symlink(n.link, path)
	}
	content := slices.Clone(n.synced)
	for _, w := range n.since {
		switch {
		case much == 1:
			content = w.apply(content)
		case much == 2 && random.IntN(2) == 0:
			content = w.torn(random).apply(content)
		}
	}
	return os.WriteFile(path, content, n.mode)
}

// torn returns a write of which some sectors are not there.
func (w write) torn(random *rand.Rand) write {
	const sector = 512
	if w.size >= 0 || random.IntN(2) == 0 {
		return w
	}
	w.data = w.data[:random.IntN(len(w.data)/sector+1)*sector]
	return w
}
