// Package owner has the rule about what root makes in another user's directory: it is given to that user,
// who goes on with it without root.
//
// Use Of with the directory, and give what is open: a path may lead elsewhere by now, since the user can
// change what is in the directory. Refused: $SUDO_UID, which a root shell, cron and systemd do not set.
package owner

import (
	"os"
	"syscall"
)

// Of returns the owner to whom what is made in a directory is given; ok is false if it stays the
// caller's: that is not root, or the directory is root's.
func Of(dir *os.Root) (uid, gid int, ok bool) {
	info, err := dir.Stat(".")
	if err != nil || os.Geteuid() != 0 {
		return 0, 0, false
	}
	to := info.Sys().(*syscall.Stat_t)
	return int(to.Uid), int(to.Gid), to.Uid != 0
}
