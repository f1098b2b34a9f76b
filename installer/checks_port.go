package installer

import (
	"context"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// freePort checks that no process listens on the port, on any address, since the socket unit listens on all. It reads the
// kernel's tables: to listen for a moment would be visible from outside.
type freePort struct {
	host *host.Host
	port int
}

func (c freePort) Check(context.Context) []Problem {
	sockets := c.listening()
	if len(sockets) == 0 {
		return nil
	}
	what := fmt.Sprintf("port %d is in use", c.port)
	remedy := fmt.Sprintf("stop what listens there (find it with: sudo ss -ltnp 'sport = :%d'), or choose another port: --quayHostname HOST:PORT", c.port)
	for inode, uid := range sockets {
		if pid, name := c.processWith(inode); pid != 0 {
			return found(fmt.Sprintf("%s by %s (process %d)", what, name, pid),
				fmt.Sprintf("stop that process (see: systemctl status %d), or choose another port: --quayHostname HOST:PORT", pid))
		}
		what = fmt.Sprintf("port %d is in use by a process of user %s", c.port, c.host.UserName(uid))
	}
	return found(what, remedy)
}

// listening returns the sockets that listen on the port, with the user of each, from proc_net_tcp(5).
func (c freePort) listening() map[string]int {
	sockets := make(map[string]int)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := c.host.ReadFile(table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(content)) {
			f := strings.Fields(line)
			const stateListen = "0A"
			if len(f) < 10 || f[3] != stateListen || portOf(f[1]) != c.port {
				continue
			}
			if uid, err := strconv.Atoi(f[7]); err == nil {
				sockets[f[9]] = uid
			}
		}
	}
	return sockets
}

func portOf(local string) int {
	_, port, _ := strings.Cut(local, ":")
	b, err := hex.DecodeString(port)
	if err != nil || len(b) != 2 {
		return -1
	}
	return int(b[0])<<8 | int(b[1])
}

// processWith returns the process with a socket, if this user may see its open files.
func (c freePort) processWith(inode string) (pid int, name string) {
	fds, err := filepath.Glob(c.host.Path("/proc") + "/[0-9]*/fd/*")
	if err != nil {
		return 0, ""
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, err := strconv.Atoi(filepath.Base(dir))
		if err != nil {
			continue
		}
		comm, err := os.ReadFile(filepath.Join(dir, "comm"))
		if err != nil {
			continue // it has just ended
		}
		return pid, strings.TrimSpace(string(comm))
	}
	return 0, ""
}
