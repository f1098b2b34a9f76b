package installer

import (
	"context"
	"encoding/xml"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/mirror-appliance/appliance/ansible-free/host"
)

// firewalld is what lets clients reach a port, or does not. It has two configurations: the one that
// runs, and the permanent one, which it reads when it starts.
type firewalld struct {
	host *host.Host
	runs bool // else it has its permanent configuration alone, which root may read
}

// askFirewalld returns nil for a host without firewalld.
func askFirewalld(ctx context.Context, h *host.Host) *firewalld {
	if _, err := h.StatTarget("/usr/bin/firewall-cmd"); err != nil {
		return nil
	}
	_, err := h.Run(ctx, "firewall-cmd", "--state")
	return &firewalld{host: h, runs: err == nil}
}

func (f *firewalld) run(ctx context.Context, lasts bool, args ...string) (string, error) {
	program := "firewall-cmd"
	switch {
	case !f.runs:
		program = "firewall-offline-cmd"
	case lasts:
		args = append([]string{"--permanent"}, args...)
	}
	out, err := f.host.Run(ctx, program, args...)
	if err != nil {
		err = fmt.Errorf("%s %s: %w", program, strings.Join(args, " "), err)
	}
	return strings.TrimSpace(string(out)), err
}

// zones returns the zones of interfaces, or the default zone where there are none.
func (f *firewalld) zones(ctx context.Context, interfaces []string) (zones []string, err error) {
	fallback, err := f.run(ctx, false, "--get-default-zone")
	for _, name := range interfaces {
		zone, zerr := f.run(ctx, false, "--get-zone-of-interface="+name)
		if zerr != nil { // it has none of its own
			zone = fallback
		}
		if !slices.Contains(zones, zone) {
			zones = append(zones, zone)
		}
	}
	if len(interfaces) == 0 {
		zones = []string{fallback}
	}
	return zones, err
}

// lets reports whether a zone lets clients reach a port, in one of the two configurations.
func (f *firewalld) lets(ctx context.Context, lasts bool, zone string, port int) (bool, error) {
	text, err := f.run(ctx, lasts, "--info-zone="+zone)
	if err != nil {
		return false, err
	}
	info := make(map[string]string)
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[key] = value
	}
	ports := strings.Fields(info["ports"])
	for _, service := range strings.Fields(info["services"]) {
		ports = append(ports, servicePorts(f.host, service)...)
	}
	return strings.TrimSpace(info["target"]) == "ACCEPT" ||
		slices.ContainsFunc(ports, func(p string) bool { return hasPort(p, port) }), nil
}

// servicePorts returns the ports of one of firewalld's services: a file of the administrator comes
// before that of the distribution.
func servicePorts(h *host.Host, name string) (ports []string) {
	for _, dir := range []string{"/etc/firewalld/services", "/usr/lib/firewalld/services"} {
		var service struct {
			Ports []struct {
				Protocol string `xml:"protocol,attr"`
				Port     string `xml:"port,attr"`
			} `xml:"port"`
		}
		text, err := h.ReadFile(filepath.Join(dir, filepath.Base(name)+".xml"))
		if err != nil || xml.Unmarshal(text, &service) != nil {
			continue
		}
		for _, p := range service.Ports {
			ports = append(ports, p.Port+"/"+p.Protocol)
		}
		return ports
	}
	return nil
}

// hasPort reports whether a TCP port is in what firewalld writes as 443/tcp or 8440-8450/tcp.
func hasPort(spec string, port int) bool {
	spec, ok := strings.CutSuffix(spec, "/tcp")
	from, to, isRange := strings.Cut(spec, "-")
	if !isRange {
		to = from
	}
	low, err := strconv.Atoi(from)
	high, err2 := strconv.Atoi(to)
	return ok && err == nil && err2 == nil && low <= port && port <= high
}

// firewalldUnit is the name of firewalld's unit.
const firewalldUnit = "firewalld.service"

// lookAtFirewall finds the zones that keep clients away from the port, now or after the next boot.
func (s *site) lookAtFirewall(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lookupTimeout)
	defer cancel()
	f := askFirewalld(ctx, s.Host)
	if f == nil || !f.runs && !s.startsAtBoot(ctx, firewalldUnit) {
		return
	}
	zones, err := f.zones(ctx, s.interfaces())
	for _, zone := range zones {
		lasting, lerr := f.lets(ctx, true, zone, s.cfg.PortHere())
		now, nerr := lasting, lerr
		if f.runs {
			now, nerr = f.lets(ctx, false, zone, s.cfg.PortHere())
		}
		if err != nil || lerr != nil || nerr != nil {
			return // this user may not ask
		}
		gap := &openPort{host: s.Host, Port: s.cfg.PortHere(), Zone: zone}
		switch {
		case now && lasting:
			continue
		case now || !f.runs:
			gap.Only = onlyPermanent
		case lasting:
			gap.Only = onlyRunning
		}
		s.closed = append(s.closed, gap)
	}
	s.firewalled = len(zones) > 0
}

// startsAtBoot reports whether systemd starts a unit of the system at boot.
func (s *site) startsAtBoot(ctx context.Context, unit string) bool {
	manager, err := s.Connect(ctx, false)
	if err != nil {
		return false
	}
	defer manager.Close()
	status, err := manager.Status(ctx, unit)
	return err == nil && status.UnitFileState == "enabled"
}

// interfaces returns those on which clients reach this host: with an address of the hostname or,
// where that leads elsewhere, with a default route.
func (s *site) interfaces() (names []string) {
	for _, a := range s.addresses {
		a = a.Unmap().WithZone("")
		if name := s.own[a]; name != "" && !a.IsLoopback() && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) > 0 {
		return names
	}
	for table, column := range map[string]struct{ to, name int }{"route": {1, 0}, "ipv6_route": {0, 9}} {
		content, _ := s.Host.ReadFile("/proc/net/" + table) // without IPv6 there is none
		for line := range strings.Lines(string(content)) {
			f := strings.Fields(line)
			if len(f) > column.name && strings.Trim(f[column.to], "0") == "" && f[column.name] != "lo" && !slices.Contains(names, f[column.name]) {
				names = append(names, f[column.name])
			}
		}
	}
	slices.Sort(names)
	return names
}

// checkFirewall checks that clients reach the port.
func (s *site) checkFirewall(orElse string) {
	for _, gap := range s.closed {
		what, remedy := gap.problem()
		s.warn(what, remedy+orElse)
	}
}

// Values of openPort.Only.
const (
	onlyPermanent = "permanent"
	onlyRunning   = "runtime"
)

// openPort lets clients reach the port through a zone of firewalld, now and after a restart of it.
type openPort struct {
	host *host.Host
	Port int    `json:"port"`
	Zone string `json:"zone,omitempty"` // empty in records of earlier versions: the default zone
	Only string `json:"only,omitempty"` // the configuration that keeps it closed; empty: both
}

func (s *openPort) String() string { return "open " + s.text() }

// Taken is as in lasting.
func (s *openPort) Taken() string { return "close " + s.text() }

func (s *openPort) text() string {
	text := fmt.Sprintf("port %d in firewalld", s.Port)
	if s.Zone != "" {
		text += "'s zone " + s.Zone
	}
	switch s.Only {
	case onlyPermanent:
		text += ", from its next start on"
	case onlyRunning:
		text += ", until its next start"
	}
	return text
}

// problem returns what is wrong while it is closed, and what to do.
func (s *openPort) problem() (what, remedy string) {
	what = fmt.Sprintf("port %d is not open in firewalld's zone %s", s.Port, s.Zone)
	switch s.Only {
	case onlyPermanent:
		what += " after the next start of firewalld"
	case onlyRunning:
		what += ", but will be after its next start"
	}
	var commands []string
	for _, lasts := range s.configurations() {
		option := map[bool]string{true: "--permanent "}[lasts]
		commands = append(commands, fmt.Sprintf("sudo firewall-cmd %s--zone=%s --add-port=%d/tcp", option, s.Zone, s.Port))
	}
	return what, strings.Join(commands, " && ")
}

// configurations returns those that the step is about; true is the permanent one.
func (s *openPort) configurations() []bool {
	switch s.Only {
	case onlyPermanent:
		return []bool{true}
	case onlyRunning:
		return []bool{false}
	}
	return []bool{true, false}
}

func (s *openPort) Check(ctx context.Context) (*host.Before, error) {
	f := askFirewalld(ctx, s.host)
	if f == nil {
		return nil, nil
	}
	for _, lasts := range s.configurations() {
		open, err := f.lets(ctx, lasts, s.Zone, s.Port)
		if err != nil {
			return nil, err
		}
		if !open {
			return &host.Before{}, nil
		}
	}
	return nil, nil
}

func (s *openPort) Apply(ctx context.Context) (bool, error) {
	f := askFirewalld(ctx, s.host)
	for _, lasts := range s.configurations() {
		if _, err := f.run(ctx, lasts, s.args("--add-port")...); err != nil {
			return true, err
		}
	}
	return true, nil
}

func (s *openPort) Undo(ctx context.Context, _ *host.Before) (changed bool, err error) {
	f := askFirewalld(ctx, s.host)
	if f == nil {
		return false, nil
	}
	for _, lasts := range s.configurations() {
		if !lasts && !f.runs {
			continue
		}
		if _, err := f.run(ctx, lasts, s.args("--query-port")...); err != nil {
			continue // it is closed, or the zone is gone
		}
		if _, err := f.run(ctx, lasts, s.args("--remove-port")...); err != nil {
			return true, err
		}
		changed = true
	}
	return changed, nil
}

func (s *openPort) args(option string) []string {
	args := []string{fmt.Sprintf("%s=%d/tcp", option, s.Port)}
	if s.Zone != "" {
		args = append([]string{"--zone=" + s.Zone}, args...)
	}
	return args
}

// closePort closes a port that an install has opened, once the registry has another one.
type closePort struct {
	Opened openPort `json:"opened"`
}

// closings returns the steps for the ports that the record has, besides the one that is wanted.
func (s *site) closings() (steps []host.Step) {
	if s.record == nil || s.User {
		return nil
	}
	for _, e := range s.record.entries {
		if opened, ok := e.Step.(*openPort); ok && opened.Port != s.cfg.Port {
			steps = append(steps, &closePort{Opened: *opened})
		}
	}
	return steps
}

// closes reports whether an entry is the opening of the port.
func (s *closePort) closes(e host.Entry) bool {
	opened, ok := e.Step.(*openPort)
	return ok && opened.text() == s.Opened.text()
}

func (s *closePort) String() string { return s.Opened.Taken() }

func (s *closePort) Check(ctx context.Context) (*host.Before, error) {
	f := askFirewalld(ctx, s.Opened.host)
	if f == nil {
		return nil, nil
	}
	for _, lasts := range s.Opened.configurations() {
		if !lasts && !f.runs {
			continue
		}
		if _, err := f.run(ctx, lasts, s.Opened.args("--query-port")...); err == nil {
			return &host.Before{}, nil
		}
	}
	return nil, nil
}

func (s *closePort) Apply(ctx context.Context) (bool, error) { return s.Opened.Undo(ctx, nil) }

func (s *closePort) Undo(ctx context.Context, _ *host.Before) (bool, error) {
	if askFirewalld(ctx, s.Opened.host) == nil {
		return false, nil
	}
	return s.Opened.Apply(ctx)
}
