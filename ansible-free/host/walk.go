package host

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/mirror-appliance/appliance/internal/hint"
)

// Root acts below directories that an unprivileged service may write to, and the service may
// exchange a name for a link at any moment. So walk opens directory after directory, each by the
// descriptor of the one before, and follows a link only where only root and the caller could have
// made it.

// maxLinks is how many links a path may come by, as in the kernel.
const maxLinks = 40

// step is an element of a path: a directory, a link that is followed, or the last one.
type step struct {
	path string // without links
	stat unix.Stat_t
	in   *unix.Stat_t // the directory that it lies in; nil for "/"
}

func (s step) is(kind uint32) bool { return s.stat.Mode&unix.S_IFMT == kind }

// walk opens the target of path with O_PATH. It calls visit for each element, and ends with visit's
// error. With follow, it follows a link at the end, too.
func (h *Host) walk(path string, follow bool, visit func(step) error) (*os.File, error) {
	next := filepath.Clean(path)
	for range maxLinks {
		f, link, err := h.descend(next, follow, visit)
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: path, Err: err}
		}
		if f != nil {
			return f, nil
		}
		next = link
	}
	return nil, &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// descend goes to the first link, and returns its target, or to the end.
func (h *Host) descend(path string, follow bool, visit func(step) error) (
	_ *os.File, next string, err error) {
	at := step{path: "/"}
	fd, err := unix.Open(h.Path("/"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, "", err
	}
	defer func() {
		if fd >= 0 {
			unix.Close(fd)
		}
	}()
	names := elements(path)
	for i := 0; ; i++ {
		if err := unix.Fstat(fd, &at.stat); err != nil {
			return nil, "", err
		}
		followed := at.is(unix.S_IFLNK) && (i < len(names) || follow)
		if followed || !at.is(unix.S_IFLNK) {
			if err := visit(at); err != nil {
				return nil, "", err
			}
		}
		if followed {
			target, err := readlink(fd)
			return nil, onward(at.path, target, names[i:]), err
		}
		if i == len(names) {
			f := os.NewFile(uintptr(fd), h.Path(at.path))
			fd = -1
			return f, "", nil
		}
		if !at.is(unix.S_IFDIR) {
			return nil, "", syscall.ENOTDIR
		}
		inner, err := unix.Openat(fd, names[i], unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, "", err
		}
		unix.Close(fd)
		in := at.stat
		fd, at = inner, step{path: filepath.Join(at.path, names[i]), in: &in}
	}
}

func readlink(fd int) (string, error) {
	buf := make([]byte, unix.PathMax)
	n, err := unix.Readlinkat(fd, "", buf)
	return string(buf[:max(n, 0)]), err
}

var errLink = errors.New("symbolic link")

// ours rejects a link that is neither root's nor the caller's.
func ours(s step) error {
	if s.is(unix.S_IFLNK) && (!trusts(s.stat.Uid) || s.in != nil && othersMayReplace(*s.in)) {
		return hint.New(fmt.Errorf("%s is a %w that user %d may have made, and is not followed",
			s.path, errLink, s.stat.Uid),
			"see where it leads (ls -l "+s.path+"); remove it if it is not yours")
	}
	return nil
}

// othersMayReplace reports whether another user than root and the caller may replace a file of
// these two in a directory.
func othersMayReplace(dir unix.Stat_t) bool {
	return !trusts(dir.Uid) || othersMayWrite(dir) && dir.Mode&unix.S_ISVTX == 0
}

// othersMayWrite judges by mode. A group whose only member is the caller counts as the caller.
func othersMayWrite(st unix.Stat_t) bool {
	return st.Mode&0o002 != 0 || st.Mode&0o020 != 0 && st.Gid != 0 && !ownGroup(int(st.Gid))
}

// trusts reports whether a user is root or the caller.
func trusts(uid uint32) bool {
	return uid == 0 || int(uid) == os.Geteuid() || uid == overflowUID && unmapped()
}

// overflowUID stands for the users that a user namespace does not map, root among them.
const overflowUID = 65534

func unmapped() bool {
	text, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(text)), " ") != "0 0 4294967295"
}

// ownGroup reports whether the caller is the only member of a group.
func ownGroup(gid int) bool {
	if gid != os.Getegid() {
		return false
	}
	h := Local()
	users, err := h.passwd()
	groups, err2 := h.table("/etc/group", 4)
	if err != nil || err2 != nil {
		return false
	}
	for _, u := range users {
		if u.owner.GID == gid && u.owner.UID != os.Geteuid() {
			return false
		}
	}
	for _, g := range groups {
		if g[2] != strconv.Itoa(gid) || g[3] == "" {
			continue
		}
		for name := range strings.SplitSeq(g[3], ",") {
			if owner, err := h.User(name); err != nil || owner.UID != os.Geteuid() {
				return false
			}
		}
	}
	return true
}

// Other is a user besides root and the caller who may change the target of a path.
type Other struct {
	UID  int    // -1: several, by the mode
	GID  int    // of the owner's file or directory
	Path string // the first directory or file that this user may change
}

// Other returns the first user besides root and the caller who may change the target of path or its
// content, nil if there is none. It judges each directory, each link and path itself, and a
// directory before its content, so that the answer holds later, too.
func (h *Host) Other(path string) (*Other, error) {
	var other *Other
	var last step
	f, err := h.walk(path, true, func(s step) error {
		last = s
		switch sticky := s.is(unix.S_IFDIR) && s.stat.Mode&unix.S_ISVTX != 0; {
		case !trusts(s.stat.Uid):
			other = &Other{UID: int(s.stat.Uid), GID: int(s.stat.Gid), Path: s.path}
		case !s.is(unix.S_IFLNK) && othersMayWrite(s.stat) && !sticky:
			other = &Other{UID: -1, GID: int(s.stat.Gid), Path: s.path}
		default:
			return nil
		}
		return errFound
	})
	if other != nil {
		return other, nil
	}
	if err != nil {
		return nil, err
	}
	if othersMayWrite(last.stat) { // others may add to a sticky directory
		other = &Other{UID: -1, GID: int(last.stat.Gid), Path: last.path}
	}
	return other, f.Close()
}

var errFound = errors.New("found")

// dir opens the directory that a path lies in, and returns its name there.
func (h *Host) dir(path string) (*os.Root, string, error) {
	clean := filepath.Clean(path)
	dir, err := h.OpenRoot(filepath.Dir(clean))
	return dir, filepath.Base(clean), err
}

// OpenRoot opens a directory, by its own name or by links that are root's or the caller's.
func (h *Host) OpenRoot(path string) (*os.Root, error) {
	f, err := h.walk(path, true, ours)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	root, err := os.OpenRoot(reopen(f))
	return root, named(f, err)
}

// reopen returns a path by which the file of a descriptor can be opened to be read.
func reopen(f *os.File) string { return fmt.Sprintf("/proc/self/fd/%d", f.Fd()) }

// named returns an error of such a path with the name of the file.
func named(f *os.File, err error) error {
	var of *fs.PathError
	if errors.As(err, &of) {
		return &fs.PathError{Op: of.Op, Path: f.Name(), Err: of.Err}
	}
	return err
}

// Open opens a regular file to be read. It rejects others before it opens them, since opening a
// device or a pipe has effects.
func (h *Host) Open(path string) (*os.File, error) { return h.openFile(path, true) }

func (h *Host) openFile(path string, follow bool) (opened *os.File, err error) {
	err = h.withFile(path, follow, func(f *os.File, fi fs.FileInfo) error {
		if !fi.Mode().IsRegular() {
			return notRegular(path, "not a regular file")
		}
		opened, err = os.OpenFile(reopen(f), os.O_RDONLY|unix.O_NONBLOCK, 0)
		return named(f, err)
	})
	return opened, err
}

// withFile calls do with a descriptor of O_PATH.
func (h *Host) withFile(path string, follow bool, do func(*os.File, fs.FileInfo) error) error {
	f, err := h.walk(path, follow, ours)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	return do(f, fi)
}
