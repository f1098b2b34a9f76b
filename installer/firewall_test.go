package installer

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
)

// fakeFirewalld stands in for firewall-cmd and firewall-offline-cmd; the end-to-end tests have
// the real ones. Its only zone is public.
type fakeFirewalld struct {
	stopped        bool
	now, permanent []string // open ports
	services       string
}

// firewalled gives the box a firewalld that runs and keeps the port closed.
func (b *box) firewalled() *fakeFirewalld {
	b.write("usr/bin/firewall-cmd", "")
	b.firewall = &fakeFirewalld{services: "ssh"}
	return b.firewall
}

func (f *fakeFirewalld) run(name string, args []string) ([]byte, error) {
	ports := &f.now
	if args[0] == "--permanent" {
		ports, args = &f.permanent, args[1:]
	}
	switch {
	case name == "firewall-offline-cmd":
		ports = &f.permanent
	case f.stopped:
		return nil, errors.New("not running")
	}
	args = slices.DeleteFunc(slices.Clone(args), func(a string) bool { return a == "--zone=public" })
	option, value, _ := strings.Cut(args[0], "=")
	switch has := slices.Contains(*ports, value); {
	case option == "--get-default-zone":
		return []byte("public\n"), nil
	case option == "--get-zone-of-interface", option == "--query-port" && !has:
		return nil, errors.New("no")
	case option == "--info-zone":
		return fmt.Appendf(nil, "public\n  target: default\n  services: %s\n  ports: %s\n", f.services, strings.Join(*ports, " ")), nil
	case option == "--add-port":
		*ports = append(*ports, value)
	case option == "--remove-port":
		*ports = slices.DeleteFunc(*ports, func(p string) bool { return p == value })
	}
	return nil, nil
}

// An install with consent opens what is closed, and an uninstall closes no more than that.
func TestInstall_firewall(t *testing.T) {
	t.Parallel()
	const port = "8443/tcp"
	for name, c := range map[string]struct {
		spoil          func(b *box, f *fakeFirewalld)
		warning        string // without consent; empty: none
		now, permanent bool   // after an install with it
		stays          [2]bool
	}{
		"closed": {func(*box, *fakeFirewalld) {}, "port 8443 is not open in firewalld's zone public", true, true, [2]bool{}},
		"open":   {func(_ *box, f *fakeFirewalld) { f.now, f.permanent = []string{port}, []string{port} }, "", true, true, [2]bool{true, true}},
		"open as one of a range": {func(_ *box, f *fakeFirewalld) {
			f.now, f.permanent = []string{"8440-8450/tcp"}, []string{"8440-8450/tcp"}
		}, "", false, false, [2]bool{}},
		"open by a service": {func(b *box, f *fakeFirewalld) {
			f.services = "ssh registry"
			b.write("etc/firewalld/services/registry.xml", `<service><port protocol="tcp" port="8443"/></service>`)
		}, "", false, false, [2]bool{}},
		"open until it starts anew":   {func(_ *box, f *fakeFirewalld) { f.now = []string{port} }, "after the next start of firewalld", true, true, [2]bool{true, false}},
		"closed until it starts anew": {func(_ *box, f *fakeFirewalld) { f.permanent = []string{port} }, "but will be after its next start", true, true, [2]bool{false, true}},
		"to be started at boot":       {func(b *box, f *fakeFirewalld) { f.stopped, b.sm.firewalld = true, true }, "after the next start of firewalld", false, true, [2]bool{}},
		"not to be started":           {func(_ *box, f *fakeFirewalld) { f.stopped = true }, "", false, false, [2]bool{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := newBox(t, false)
			f := b.firewalled()
			c.spoil(b, f)
			r := b.request()
			warnings := b.plan(r).Warnings
			if c.warning == "" && len(warnings) > 0 || c.warning != "" && (len(warnings) != 1 ||
				!strings.Contains(warnings[0].What, c.warning) || !strings.Contains(warnings[0].Remedy, "--autoApprove")) {
				t.Errorf("warnings: %v", warnings)
			}
			was := [2]bool{slices.Contains(f.now, port), slices.Contains(f.permanent, port)}
			b.install()
			if is := [2]bool{slices.Contains(f.now, port), slices.Contains(f.permanent, port)}; is != was {
				t.Fatalf("it was opened without consent: %v became %v", was, is)
			}
			r.OpenFirewall = true
			if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			if is := [2]bool{slices.Contains(f.now, port), slices.Contains(f.permanent, port)}; is != [2]bool{c.now, c.permanent} {
				t.Errorf("open now and for good: %v", is)
			}
			b.uninstall(true)
			if is := [2]bool{slices.Contains(f.now, port), slices.Contains(f.permanent, port)}; is != c.stays {
				t.Errorf("open now and for good after an uninstall: %v", is)
			}
		})
	}
}

// A change of the port closes the old one as far as an install has opened it, and one that fails does not.
func TestPlanUpgrade_firewall(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	f := b.firewalled()
	r := b.request()
	r.OpenFirewall = true
	if _, err := b.plan(r).Apply(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	open := func(want string) {
		t.Helper()
		if now, permanent := strings.Join(f.now, " "), strings.Join(f.permanent, " "); now != want || permanent != want {
			t.Errorf("open are %q, and for good %q: want %q", now, permanent, want)
		}
	}
	change := func(port int) error {
		t.Helper()
		r.Port = port
		return b.upgrade(r)
	}
	b.deps.Health = func(context.Context, *config.Config) error {
		b.sm.restarts++
		return errors.New("unhealthy")
	}
	if err := change(9443); err == nil {
		t.Error("a daemon that ends is taken for a healthy one")
	}
	open("8443/tcp")
	b.deps.Health = b.health
	for range 2 {
		if err := change(9443); err != nil {
			t.Fatal(err)
		}
		open("9443/tcp")
	}
	r.OpenFirewall = false
	if err := change(8443); err != nil {
		t.Fatal(err)
	}
	open("")
	f.now, f.permanent = []string{"9443/tcp"}, []string{"9443/tcp"} // by the administrator
	b.uninstall(true)
	open("9443/tcp")
}

// A change of the port that was killed after it had closed the old one is taken back with it.
func TestClosePort_Undo(t *testing.T) {
	t.Parallel()
	b := newBox(t, false)
	f := b.firewalled()
	f.now = []string{"8443/tcp"}
	s, err := newSite(Request{}, b.deps)
	if err != nil {
		t.Fatal(err)
	}
	step := &closePort{Opened: openPort{host: b.deps.Host, Port: 8443, Zone: "public", Only: onlyRunning}}
	before, err := step.Check(t.Context())
	if before == nil || err != nil {
		t.Fatalf("it is open: %v, %v", before, err)
	}
	line, err := host.Kinds(s.kinds).Encode(host.Entry{Step: step, Before: before})
	if err != nil || line == nil {
		t.Fatalf("a journal does not take it: %v", err)
	}
	if _, err := step.Apply(t.Context()); err != nil || len(f.now) > 0 {
		t.Errorf("open are %q: %v", f.now, err)
	}
	e, err := host.Kinds(s.kinds).Decode(line)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := e.Step.Undo(t.Context(), e.Before); err != nil || !slices.Equal(f.now, []string{"8443/tcp"}) || len(f.permanent) > 0 {
		t.Errorf("open are %q, and for good %q: %v", f.now, f.permanent, err)
	}
}

func TestHasPort(t *testing.T) {
	for spec, want := range map[string]bool{"8443/tcp": true, "8440-8450/tcp": true, "8443/udp": false, "443/tcp": false,
		"8444-8450/tcp": false, "8000-8442/tcp": false, "": false, "x/tcp": false} {
		if hasPort(spec, 8443) != want {
			t.Errorf("%q: %v", spec, !want)
		}
	}
}

func TestExampleAddress(t *testing.T) {
	for want, have := range map[string]string{
		"127.0.0.1": "127.0.0.1 ::1 fe80::1", "2001:db8::2": "127.0.0.1 ::1 fe80::1 2001:db8::2", "192.0.2.7": "2001:db8::2 192.0.2.7 192.0.2.9",
	} {
		own := make(map[netip.Addr]string)
		for _, a := range strings.Fields(have) {
			own[netip.MustParseAddr(a)] = "eth0"
		}
		if got := exampleAddress(own); got != want {
			t.Errorf("of %s: %s", have, got)
		}
	}
}

// The interface of the hostname's address counts; where that is another host's, those of the default routes do.
func TestSite_interfaces(t *testing.T) {
	b := newBox(t, false)
	b.write("proc/net/route", "Iface\tDestination\tGateway\neth1\t0010A8C0\t00000000\neth2\t00000000\t0110A8C0\n")
	b.write("proc/net/ipv6_route", strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" 00 fe80 00 0 0 0 eth3\n"+
		strings.Repeat("0", 32)+" 00 "+strings.Repeat("0", 32)+" 00 :: 00 0 0 0 lo\n")
	for address, want := range map[string]string{"192.0.2.7": "eth0", "::ffff:192.0.2.7": "eth0", "127.0.0.1": "eth2 eth3", "203.0.113.1": "eth2 eth3"} {
		s := &site{Deps: b.deps}
		s.addresses = []netip.Addr{netip.MustParseAddr(address)}
		s.own = map[netip.Addr]string{netip.MustParseAddr("192.0.2.7"): "eth0", netip.MustParseAddr("127.0.0.1"): "lo"}
		if got := strings.Join(s.interfaces(), " "); got != want {
			t.Errorf("%s: %s, want %s", address, got, want)
		}
	}
}
