package upstream

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"time"
)

// A reach is a set of kinds of addresses that are not public.
type reach uint32

const (
	reachPrivate   reach = 1 << iota // an organization's networks
	reachLinkLocal                   // the link, with the metadata services of clouds
	reachLoopback                    // this machine
	reachNothing                     // multicast and reserved addresses; never allowed
)

// notPublic lists the networks that are not public. The first match counts.
var notPublic = []struct {
	network netip.Prefix
	is      reach
}{
	// Metadata services that do not have a link-local address.
	{netip.MustParsePrefix("100.100.100.200/32"), reachLinkLocal},
	{netip.MustParsePrefix("168.63.129.16/32"), reachLinkLocal},
	{netip.MustParsePrefix("192.0.0.0/24"), reachLinkLocal},
	{netip.MustParsePrefix("fd00:ec2::/32"), reachLinkLocal},

	{netip.MustParsePrefix("0.0.0.0/8"), reachLoopback}, // 0.0.0.0 connects to this machine, as :: does
	{netip.MustParsePrefix("127.0.0.0/8"), reachLoopback},
	{netip.MustParsePrefix("::/127"), reachLoopback},
	{netip.MustParsePrefix("169.254.0.0/16"), reachLinkLocal},
	{netip.MustParsePrefix("fe80::/10"), reachLinkLocal},
	{netip.MustParsePrefix("10.0.0.0/8"), reachPrivate},
	{netip.MustParsePrefix("100.64.0.0/10"), reachPrivate},
	{netip.MustParsePrefix("172.16.0.0/12"), reachPrivate},
	{netip.MustParsePrefix("192.168.0.0/16"), reachPrivate},
	{netip.MustParsePrefix("198.18.0.0/15"), reachPrivate},
	{netip.MustParsePrefix("fc00::/7"), reachPrivate},
	{netip.MustParsePrefix("fec0::/10"), reachPrivate},
	{netip.MustParsePrefix("64:ff9b:1::/48"), reachPrivate},
	{netip.MustParsePrefix("224.0.0.0/3"), reachNothing},
	{netip.MustParsePrefix("ff00::/8"), reachNothing},
	{netip.MustParsePrefix("::/96"), reachNothing},
	{netip.MustParsePrefix("2001::/32"), reachNothing}, // Teredo, which hides an IPv4 address
}

// embedded lists the networks whose addresses embed an IPv4 address, and the byte at which that
// begins.
var embedded = []struct {
	network netip.Prefix
	at      int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12},
	{netip.MustParsePrefix("2002::/16"), 2},
}

// reachOf returns the kind of an address, 0 for a public one.
func reachOf(ip netip.Addr) reach {
	ip = ip.Unmap().WithZone("")
	for _, e := range embedded {
		if e.network.Contains(ip) {
			b := ip.As16()
			return reachOf(netip.AddrFrom4([4]byte(b[e.at : e.at+4])))
		}
	}
	for _, n := range notPublic {
		if n.network.Contains(ip) {
			return n.is
		}
	}
	return 0
}

// granted returns the addresses that an upstream at such an address may lead to: one of the
// organization to others there, one on this machine to both.
func (r reach) granted() reach {
	if r&reachLoopback != 0 {
		return reachLoopback | reachPrivate
	}
	return r &^ reachNothing
}

// errAddress refuses an address that is not public. It does not name the address: users of the
// upstream must not learn the names and addresses of this network.
var errAddress = &refusal{"its address is not a public one",
	"the upstream leads into this network, which only one with an address there may: mirror from the address that it leads to, or ask its operator"}

// resolveLimit bounds the lookup of a name that a proxy resolves itself.
const resolveLimit = 5 * time.Second

// checkName checks a host that a proxy connects to. The proxy's resolution is unknown here: a name
// that is an address, or resolves to one here, is checked like an address that is dialed.
func checkName(ctx context.Context, host string, allowed reach, of func(netip.Addr) reach) error {
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if ip, err := netip.ParseAddr(host); err == nil {
		return allow(of(ip), allowed)
	}
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return allow(reachLoopback, allowed)
	}
	if last := host[strings.LastIndexByte(host, '.')+1:]; last == "" || last[0] >= '0' && last[0] <= '9' {
		return errAddress // some resolvers take 2130706433 and 0x7f.1 for 127.0.0.1
	}
	ctx, cancel := context.WithTimeout(ctx, resolveLimit)
	defer cancel()
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil // behind a proxy, public names often do not resolve
	}
	for _, ip := range ips {
		if err := allow(of(ip), allowed); err != nil {
			return err
		}
	}
	return nil
}

func allow(r, allowed reach) error {
	if r&^allowed != 0 {
		return errAddress
	}
	return nil
}
