package installer

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/internal/image"
	"github.com/mirror-appliance/appliance/registry/auth"
)

// rights checks that the caller may write the unit: root a system's, a user one in the home directory.
type rights struct {
	user bool
	euid int
	home string
}

func (c rights) Check(context.Context) []Problem {
	switch {
	case c.user && c.home == "":
		return found("a user's service is kept in the home directory, and this user has none", "set HOME to a directory of this user's, or run the command with sudo")
	case c.user || c.euid == 0:
		return nil
	}
	return found("a system service can only be installed by root", "run the command with sudo, or as a plain user to install a service of that user")
}

// executable checks that there is a program to install.
type executable struct{ path string }

func (c executable) Check(context.Context) []Problem {
	fi, err := os.Stat(c.path)
	if err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
		return nil
	}
	return found(fmt.Sprintf("the executable to install, %q, is not an executable file", c.path), "run the command with the file's whole path, from a directory that is still there")
}

// userName checks the administrator's name.
type userName struct{ name string }

func (c userName) Check(context.Context) []Problem {
	if err := auth.CheckName(c.name); err != nil {
		return found("--initUser: "+err.Error(), hint.Of(err))
	}
	return nil
}

// password checks the administrator's password, which is not part of the message.
type password struct{ password string }

func (c password) Check(context.Context) []Problem {
	if err := auth.CheckPassword(c.password); err != nil {
		return found("--initPassword: "+err.Error(), hint.Of(err))
	}
	return nil
}

// hostnameSyntax checks that the hostname is a DNS name, as certificates and image references require.
type hostnameSyntax struct{ name string }

func (c hostnameSyntax) Check(context.Context) []Problem {
	if why := validHostname(c.name); why != "" {
		return found(why, "give the DNS name by which clusters reach this host: --quayHostname registry.example.com")
	}
	return nil
}

// validHostname returns the reason why a name cannot be this host's, "" if it can.
func validHostname(name string) string {
	if name == "" {
		return "no hostname is given, and this host has none"
	}
	if err := image.CheckHostname(name); err != nil {
		return "the hostname " + err.Error()
	}
	return ""
}

// hostnameResolves checks that this host resolves the name, best to an address of its own.
type hostnameResolves struct {
	resolver resolver
	name     string
}

const lookupTimeout = 10 * time.Second

func (c hostnameResolves) Check(ctx context.Context) []Problem {
	if validHostname(c.name) != "" {
		return nil // said already
	}
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	own := ownAddresses()
	addrs, err := c.resolver.LookupNetIP(ctx, "ip", c.name)
	if err != nil || len(addrs) == 0 {
		return found(fmt.Sprintf("the hostname %s does not resolve: %s", c.name, lookupReason(err)),
			fmt.Sprintf("add it to the DNS, or on this host: echo '%s %s' | sudo tee -a /etc/hosts", exampleAddress(own), c.name))
	}
	var texts []string
	for _, a := range addrs {
		a = a.Unmap().WithZone("")
		if a.IsLoopback() || own[a] {
			return nil
		}
		texts = append(texts, a.String())
	}
	if len(own) == 0 {
		return nil
	}
	return warning(fmt.Sprintf("the hostname %s resolves to %s, which is not an address of this host", c.name, strings.Join(texts, ", ")),
		"go on if a load balancer or an address translation stands in between; otherwise correct the DNS or /etc/hosts")
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

// ownAddresses returns the addresses of this host, none if they are not known.
func ownAddresses() map[netip.Addr]bool {
	own := make(map[netip.Addr]bool)
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return own
	}
	for _, a := range addrs {
		if prefix, err := netip.ParsePrefix(a.String()); err == nil {
			own[prefix.Addr().Unmap().WithZone("")] = true
		}
	}
	return own
}

// exampleAddress returns an address to show in a remedy: one that others reach, if there is one.
func exampleAddress(own map[netip.Addr]bool) string {
	best := netip.MustParseAddr("127.0.0.1")
	for a := range own {
		if a.Is4() && a.IsGlobalUnicast() && (best.IsLoopback() || a.Less(best)) {
			best = a
		}
	}
	return best.String()
}

// privilegedPort checks that the user may listen on the port: below 1024 only root may, unless the kernel has another limit.
type privilegedPort struct {
	host *host.Host
	port int
	user bool
}

func (c privilegedPort) Check(context.Context) []Problem {
	if c.port < 1 || c.port > 65535 {
		return found(fmt.Sprintf("%d is not a port", c.port), "choose one from 1 to 65535, such as 8443")
	}
	if !c.user {
		return nil
	}
	floor := 1024
	if content, err := c.host.ReadFile("/proc/sys/net/ipv4/ip_unprivileged_port_start"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			floor = n
		}
	}
	if c.port >= floor {
		return nil
	}
	return found(fmt.Sprintf("port %d is below %d, where only root may listen", c.port, floor),
		fmt.Sprintf("choose another port, such as 8443, or install as root, or allow it: sudo sysctl net.ipv4.ip_unprivileged_port_start=%d", c.port))
}
