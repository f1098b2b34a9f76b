package installer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// A check judges one precondition by the facts: it reads nothing of the host, writes nothing, and
// adds its problems to those of the site, so that all are shown together.

func (s *site) problem(what, remedy string) {
	s.problems = append(s.problems, Problem{What: what, Remedy: remedy})
}

func (s *site) warn(what, remedy string) {
	s.problems = append(s.problems, Problem{What: what, Remedy: remedy, Warning: true})
}

// fault is problem for an error, whose hint, if it has one, is the remedy.
func (s *site) fault(err error, remedy string) {
	if errors.Is(err, fs.ErrPermission) && s.Geteuid() != 0 {
		s.denied, remedy = true, asInstaller
	}
	s.problem(err.Error(), cmp.Or(hint.Of(err), remedy))
}

// preflight checks all preconditions of an install, in the order in which their problems are shown.
func (s *site) preflight() {
	s.checkRights()
	s.checkSystemd()
	s.checkClock()
	s.checkSELinux()
	s.checkLinger()
	if !s.program && !s.rollback {
		s.problem(fmt.Sprintf("the executable to install, %q, is not an executable file", s.Binary),
			"run the command with the file's whole path, from a directory that is still there")
	}
	if err := auth.CheckName(s.InitUser); err != nil {
		s.problem("--initUser: "+err.Error(), hint.Of(err))
	}
	if s.InitUser == PullerUser {
		s.problem("--initUser: "+PullerUser+" is the user whose password goes to the nodes of a cluster",
			"choose another name")
	}
	s.checkMirrorRegistry()
	s.checkServer()
	if s.checkUpgrade(); s.Upgrade && s.unit == nil {
		return // what is in the way of an install is not in the way here
	}
	if err := auth.CheckPassword(s.InitPassword); err != nil {
		s.problem("--initPassword: "+err.Error(), hint.Of(err)) // without the password
	}
	if s.cfg == nil {
		s.checkHostname(normalizeHostname(s.Hostname))
		return
	}
	s.checkHostname(s.cfg.Hostname)
	s.checkResolution()
	s.checkPort()
	s.checkApart()
	switch {
	case s.checkMounted(): // what else is wrong follows from that
	case len(s.moves) > 0:
		s.checkMove()
	default:
		s.checkContent()
	}
	if s.Request.TakeOver == nil && (!s.listening || !listensOn(s.Host, s.unitDir(), s.cfg.Port)) {
		s.checkPortFree()
	}
	switch {
	case s.User:
		s.checkFirewall("")
	case !s.OpenFirewall:
		s.checkFirewall("; --autoApprove does it")
	}
	s.checkPlaces()
	s.checkShown()
	if len(s.problems) == 0 && !s.kept {
		// A fault that the checks do not find must not reach the daemon.
		if _, err := s.cfg.Marshal(); err != nil {
			s.fault(err, "change the flag that this value came from")
		}
	}
}

// checkRights checks that the caller may write the unit: root a system's, a user one of its own.
func (s *site) checkRights() {
	switch {
	case s.User && s.Home == "":
		s.problem("a user's service is kept in the home directory, and this user has none",
			"set HOME to a directory of this user's, or run the command with sudo")
	case !s.User && s.Geteuid() != 0:
		s.problem("a system service can only be installed by root",
			"run the command with sudo, or as a plain user to install a service of that user")
	}
}

// checkHostname checks that the hostname is a DNS name, as certificates and image references
// require.
func (s *site) checkHostname(name string) {
	if reason := invalidHostname(name); reason != "" {
		s.problem(reason, "give the DNS name by which clusters reach this host: "+
			"--quayHostname registry.example.com")
	}
}

// invalidHostname returns the reason why a name cannot be this host's, "" if it can.
func invalidHostname(name string) string {
	if name == "" {
		return "no hostname is given, and this host has none"
	}
	if err := image.CheckHostname(name); err != nil {
		return "the hostname " + err.Error()
	}
	return ""
}

// checkResolution checks that this host resolves the name, best to an address of its own.
func (s *site) checkResolution() {
	if invalidHostname(s.cfg.Hostname) != "" {
		return // a problem of its own
	}
	if s.lookupErr != nil || len(s.addresses) == 0 {
		s.problem("the hostname "+s.cfg.Hostname+" does not resolve: "+lookupReason(s.lookupErr),
			fmt.Sprintf("add it to the DNS, or on this host: echo '%s %s' | sudo tee -a /etc/hosts",
				exampleAddress(s.own), s.cfg.Hostname))
		return
	}
	var texts []string
	for _, a := range s.addresses {
		a = a.Unmap().WithZone("")
		if a.IsLoopback() || s.own[a] != "" {
			return
		}
		texts = append(texts, a.String())
	}
	if len(s.own) > 0 {
		s.warn(fmt.Sprintf("the hostname %s resolves to %s, which is not an address of this host",
			s.cfg.Hostname, strings.Join(texts, ", ")), "go on if a load balancer or an address "+
			"translation stands in between; otherwise correct the DNS or /etc/hosts")
	}
}

func lookupReason(err error) string {
	var dns *net.DNSError
	switch {
	case err == nil:
		return "it has no address"
	case errors.As(err, &dns) && dns.IsNotFound:
		return "no such host"
	case errors.As(err, &dns) && dns.IsTimeout, errors.Is(err, context.DeadlineExceeded):
		return "no DNS server answers in time"
	case errors.As(err, &dns):
		return "the DNS does not answer: " + dns.Err
	}
	return err.Error()
}

// exampleAddress returns an address for a remedy: one that other hosts reach, if there is one, and of
// IPv4 rather than of IPv6.
func exampleAddress(own map[netip.Addr]string) string {
	best := netip.MustParseAddr("127.0.0.1")
	for a := range own {
		if a.IsGlobalUnicast() && (best.IsLoopback() || a.Less(best)) { // those of IPv4 are less
			best = a
		}
	}
	return best.String()
}

// checkPort checks that the user may listen on the port.
func (s *site) checkPort() {
	switch port := s.cfg.PortHere(); {
	case port < 1 || port > 65535:
		s.problem(fmt.Sprintf("%d is not a port", port), "choose one from 1 to 65535, such as 8443")
	case s.User && port < s.portFloor:
		s.problem(fmt.Sprintf("port %d is below %d, where only root may listen", port, s.portFloor),
			fmt.Sprintf("choose another port, such as 8443, or install as root, or allow it: "+
				"sudo sysctl net.ipv4.ip_unprivileged_port_start=%d", port))
	}
}

// checkPortFree checks that no process listens on the port, on any address: the socket unit listens
// on all.
func (s *site) checkPortFree() {
	const other = ", or choose another port: --quayHostname HOST:PORT"
	switch l := s.listener; {
	case l == nil:
	case l.pid != 0:
		s.problem(fmt.Sprintf("port %d is in use by %s (process %d)", s.cfg.PortHere(), l.name, l.pid),
			fmt.Sprintf("stop that process (see: systemctl status %d)%s", l.pid, other))
	default:
		s.problem(fmt.Sprintf("port %d is in use by a process of user %s", s.cfg.PortHere(), l.user),
			fmt.Sprintf("stop what listens there (find it with: sudo ss -ltnp 'sport = :%d')%s",
				s.cfg.PortHere(), other))
	}
}

// checkMirrorRegistry checks that the host has no Quay of a mirror-registry: neither the unit nor,
// in quayRoot, a configuration.
func (s *site) checkMirrorRegistry() {
	const remedy = "take over what it has: appliance install --adopt; or remove it with mirror-registry uninstall"
	switch {
	case s.Request.TakeOver != nil && !s.isQuay():
	case s.quayUnit != "":
		s.problem(fmt.Sprintf("a mirror-registry is installed on this host (%s)", s.quayUnit), remedy)
	case s.isQuay():
		s.problem(s.confPath()+" is the configuration of a mirror-registry (Quay)",
			remedy+", or choose another --quayRoot")
	}
}

// isQuay reports whether the directory belongs to a mirror-registry.
func (s *site) isQuay() bool { return s.contentIs == nil && isQuayConfig(s.content) }

// isQuayConfig recognizes Quay's configuration by keys that it always has. The appliance's has one
// of them too, for scripts, beside keys of its own.
func isQuayConfig(content []byte) bool {
	quay := false
	for line := range strings.Lines(string(content)) {
		switch key, _, _ := strings.Cut(line, ":"); key {
		case "DB_URI":
			return true
		case "SERVER_HOSTNAME":
			quay = true
		case "hostname", "controlSocket":
			return false
		}
	}
	return quay
}
