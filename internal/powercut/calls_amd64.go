package powercut

import "golang.org/x/sys/unix"

// olderCalls are those that newer architectures do not have.
func olderCalls() map[uint64]form {
	return map[uint64]form{
		unix.SYS_OPEN:     {kind: opens, fd: -1, dir: -1, name: 0, flags: 1},
		unix.SYS_LINK:     {kind: links, fd: -1, dir: -1, name: 0, toDir: -1, toName: 1},
		unix.SYS_RENAME:   {kind: renames, fd: -1, dir: -1, name: 0, toDir: -1, toName: 1},
		unix.SYS_RENAMEAT: {kind: renames, fd: -1, dir: 0, name: 1, toDir: 2, toName: 3},
		unix.SYS_UNLINK:   {kind: removes, fd: -1, dir: -1, name: 0},
		unix.SYS_RMDIR:    {kind: removes, fd: -1, dir: -1, name: 0},
		unix.SYS_MKDIR:    {kind: makesDirectory, fd: -1, dir: -1, name: 0},
	}
}
