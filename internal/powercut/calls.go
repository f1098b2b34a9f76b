package powercut

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kind is what a system call does to files.
type kind int

const (
	writes kind = iota + 1
	syncs
	syncsAll
	truncates
	allocates
	opens
	links
	renames
	removes
	makesDirectory
)

// form is where a system call has what it is about, by the number of the argument.
type form struct {
	kind
	fd     int // -1: names
	dir    int // descriptor of the directory of the first name; -1: the current one
	name   int
	toDir  int
	toName int
	flags  int
}

// calls are the system calls that change files, by their numbers. calls_amd64.go has older ones.
func calls() map[uint64]form {
	all := map[uint64]form{
		unix.SYS_WRITE:           {kind: writes, fd: 0},
		unix.SYS_PWRITE64:        {kind: writes, fd: 0},
		unix.SYS_WRITEV:          {kind: writes, fd: 0},
		unix.SYS_PWRITEV:         {kind: writes, fd: 0},
		unix.SYS_PWRITEV2:        {kind: writes, fd: 0},
		unix.SYS_SENDFILE:        {kind: writes, fd: 0},
		unix.SYS_SPLICE:          {kind: writes, fd: 2},
		unix.SYS_COPY_FILE_RANGE: {kind: writes, fd: 2},
		unix.SYS_FSYNC:           {kind: syncs, fd: 0},
		unix.SYS_FDATASYNC:       {kind: syncs, fd: 0},
		unix.SYS_SYNCFS:          {kind: syncsAll, fd: 0},
		unix.SYS_FTRUNCATE:       {kind: truncates, fd: 0},
		unix.SYS_TRUNCATE:        {kind: truncates, fd: -1, dir: -1, name: 0},
		unix.SYS_FALLOCATE:       {kind: allocates, fd: 0},
		unix.SYS_OPENAT:          {kind: opens, fd: -1, dir: 0, name: 1, flags: 2},
		unix.SYS_LINKAT:          {kind: links, fd: -1, dir: 0, name: 1, toDir: 2, toName: 3},
		unix.SYS_RENAMEAT2:       {kind: renames, fd: -1, dir: 0, name: 1, toDir: 2, toName: 3},
		unix.SYS_UNLINKAT:        {kind: removes, fd: -1, dir: 0, name: 1},
		unix.SYS_MKDIRAT:         {kind: makesDirectory, fd: -1, dir: 0, name: 1},
	}
	for number, f := range olderCalls() {
		all[number] = f
	}
	return all
}

// call is a system call. info is struct ptrace_syscall_info, the same on every architecture.
type call struct {
	info struct {
		op     uint8
		_      [3]uint8
		_      uint32
		_, _   uint64
		number uint64 // or, at the end of the call, its result
		args   [6]uint64
	}
	form
	number   uint64
	args     [6]uint64
	result   uint64
	path, to string // absolute
}

// get reads the call in which a thread is.
func (c *call) get(pid int) error {
	const getInfo, entry, exit = 0x420e, 1, 2
	_, _, errno := unix.Syscall6(unix.SYS_PTRACE, getInfo, uintptr(pid), unsafe.Sizeof(c.info), uintptr(unsafe.Pointer(&c.info)), 0, 0)
	switch {
	case errno != 0:
		return errno
	case c.info.op == entry:
		c.number, c.args = c.info.number, c.info.args
	case c.info.op == exit:
		c.result = c.info.number
	}
	return nil
}

// concerns reports whether a call is about files of the directory.
func (d *disk) concerns(pid int, c *call) bool {
	f, ok := d.calls[c.number]
	if !ok {
		return false
	}
	c.form = f
	if f.kind == opens && c.args[f.flags]&(unix.O_CREAT|unix.O_TRUNC) == 0 {
		return false
	}
	if f.fd >= 0 {
		c.path = opened(pid, c.args[f.fd])
		return d.has(c.path) && (f.kind != writes || isFile(pid, c.args[f.fd]))
	}
	c.path = named(pid, f.dir, f.name, c.args)
	if f.kind == links || f.kind == renames {
		c.to = named(pid, f.toDir, f.toName, c.args)
	}
	return d.has(c.path) || d.has(c.to)
}

// opened returns the path of an open file, "" if it has none.
func opened(pid int, fd uint64) string {
	path, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(fd)))
	if err != nil {
		return ""
	}
	return path
}

func isFile(pid int, fd uint64) bool {
	info, err := os.Stat(fmt.Sprintf("/proc/%d/fd/%d", pid, int32(fd)))
	return err == nil && info.Mode().IsRegular()
}

// named returns a path that a call names.
func named(pid, dir, name int, args [6]uint64) string {
	text := text(pid, args[name])
	if after, ok := strings.CutPrefix(text, "/proc/self/fd/"); ok { // the source of a link
		var fd uint64
		if _, err := fmt.Sscan(after, &fd); err == nil {
			return opened(pid, fd)
		}
	}
	if filepath.IsAbs(text) {
		return filepath.Clean(text)
	}
	base := ""
	if dir < 0 || int32(args[dir]) == unix.AT_FDCWD {
		base, _ = os.Readlink(fmt.Sprintf("/proc/%d/cwd", pid))
	} else {
		base = opened(pid, args[dir])
	}
	return filepath.Join(base, text)
}

// text reads a string of the process.
func text(pid int, address uint64) string {
	b := make([]byte, unix.PathMax)
	n, err := unix.PtracePeekData(pid, uintptr(address), b)
	if err != nil && n == 0 {
		return ""
	}
	s, _, _ := bytes.Cut(b[:n], []byte{0})
	return string(s)
}
