package installer

import (
	"context"
	"encoding/hex"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// network is what a preflight needs to know of the hostname and the port.
type network struct {
	addresses []netip.Addr // of the hostname
	lookupErr error
	own       map[netip.Addr]string // the addresses of this host, with their interfaces; empty if they are not known
	portFloor int                   // below it, only root may listen
	listener  *listener             // on the port; nil: none

	firewalled bool        // firewalld decides on the port
	closed     []*openPort // in the zones that keep clients away from it
}

// listener is a process that listens.
type listener struct {
	user string
	pid  int // 0: this user may not see it
	name string
}

const lookupTimeout = 10 * time.Second

func (s *site) lookAtNetwork(ctx context.Context) {
	if invalidHostname(s.cfg.Hostname) == "" {
		ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
		defer cancel()
		s.addresses, s.lookupErr = s.Resolver.LookupNetIP(ctx, "ip", s.cfg.Hostname)
	}
	s.own = addresses()
	s.portFloor = 1024
	content, err := s.Host.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start")
	if n, nerr := strconv.Atoi(strings.TrimSpace(string(content))); err == nil && nerr == nil {
		s.portFloor = n
	}
	s.listener = findListener(s.Host, s.cfg.PortHere())
}

// addresses returns those of this host.
func addresses() map[netip.Addr]string {
	own := make(map[netip.Addr]string)
	interfaces, _ := net.Interfaces() // none: not known
	for _, i := range interfaces {
		addrs, _ := i.Addrs()
		for _, a := range addrs {
			if prefix, err := netip.ParsePrefix(a.String()); err == nil {
				own[prefix.Addr().Unmap().WithZone("")] = i.Name
			}
		}
	}
	return own
}

// findListener looks for the port in the kernel's tables (proc_net_tcp(5)): to listen for a moment
// would be visible from outside. A process that this user may see comes first.
func findListener(h *host.Host, port int) (found *listener) {
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		content, err := h.ReadFile(table)
		if err != nil {
			continue // no IPv6
		}
		for line := range strings.Lines(string(content)) {
			f := strings.Fields(line)
			const stateListen = "0A"
			if len(f) < 10 || f[3] != stateListen || portOf(f[1]) != port {
				continue
			}
			uid, err := strconv.Atoi(f[7])
			if err != nil {
				continue
			}
			found = &listener{user: h.UserName(uid)}
			if found.pid, found.name = processWith(h, f[9]); found.pid != 0 {
				return found
			}
		}
	}
	return found
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
func processWith(h *host.Host, inode string) (pid int, name string) {
	fds, err := filepath.Glob(h.Path("/proc") + "/[0-9]*/fd/*")
	if err != nil {
		return 0, ""
	}
	for _, fd := range fds {
		if target, err := os.Readlink(fd); err != nil || target != "socket:["+inode+"]" {
			continue
		}
		dir := filepath.Dir(filepath.Dir(fd))
		pid, err := strconv.Atoi(filepath.Base(dir))
		comm, cerr := os.ReadFile(filepath.Join(dir, "comm"))
		if err == nil && cerr == nil { // it has not just ended
			return pid, strings.TrimSpace(string(comm))
		}
	}
	return 0, ""
}
