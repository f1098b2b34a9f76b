package installer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// freePort: nobody else listens there, on any address, since the socket unit listens on all of them.
type freePort struct{ port int }

func (c freePort) Check(ctx context.Context) []Problem {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", fmt.Sprintf(":%d", c.port))
	if err == nil {
		l.Close()
		return nil
	}
	if errors.Is(err, syscall.EACCES) {
		return nil // privilegedPort says so
	}
	if !errors.Is(err, syscall.EADDRINUSE) {
		return found(fmt.Sprintf("cannot listen on port %d: %v", c.port, err), "choose another port: --quayHostname HOST:PORT")
	}
	holder, remedy := holderOf(c.port)
	return found(fmt.Sprintf("port %d is in use%s", c.port, holder), remedy)
}

// holderOf names who listens on a port, as far as this user may see.
func holderOf(port int) (who, remedy string) {
	remedy = fmt.Sprintf("stop what listens there (find it with: sudo ss -ltnp 'sport = :%d'), or choose another port: --quayHostname HOST:PORT", port)
	sockets := listening(port)
	if len(sockets) == 0 {
		return "", remedy
	}
	for inode, uid := range sockets {
		who = " by a process of user " + host.Local().UserName(uid)
		if pid, name := processWith(inode); pid != 0 {
			return fmt.Sprintf(" by %s (process %d)", name, pid),
				fmt.Sprintf("stop that process (see: systemctl status %d), or choose another port: --quayHostname HOST:PORT", pid)
		}
	}
	return who, remedy
}

// listening gives the sockets that listen on a port, with the user of each, from proc_net_tcp(5).
func listening(port int) map[string]int {
	sockets := make(map[string]int)
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := os.ReadFile(table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(content)) {
			f := strings.Fields(line)
			const stateListen = "0A"
			if len(f) < 10 || f[3] != stateListen || portOf(f[1]) != port {
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

// processWith looks through the open files of those processes that this user may look into.
func processWith(inode string) (pid int, name string) {
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
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
