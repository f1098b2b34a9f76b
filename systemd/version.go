package systemd

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Oldest is the version of systemd that the units need, that of RHEL 8: their filter of system calls
// begins with the group @system-service (239), what they hide of home directories needs
// TemporaryFileSystem (238), and the daemon finds its sockets by name (227).
const Oldest = 239

// since has the settings of the units that came after Oldest. systemd passes over those that it
// does not know.
var since = map[string]int{
	"ProtectHostname": 242, "RestrictSUIDSGID": 242, "ProtectKernelLogs": 244, "ProtectClock": 245,
	"ProtectProc": 247,
}

// Unknown returns the settings of the service's unit that a version of systemd does not know,
// sorted.
func Unknown(version int, userUnit bool) (names []string) {
	for line := range strings.Lines(string(ServiceUnit(ServiceOptions{UserUnit: userUnit}))) {
		if key, _, _ := strings.Cut(line, "="); since[key] > version {
			names = append(names, key)
		}
	}
	slices.Sort(names)
	return names
}

// Version returns the version of the manager, without what a distribution adds to it.
func (m *Manager) Version() (int, error) {
	text, err := m.conn.GetManagerProperty("Version")
	if err != nil {
		return 0, fmt.Errorf("ask systemd for its version: %w", err)
	}
	return parseVersion(text)
}

// parseVersion reads a version such as "252.39-1~deb12u1", in quotes as a value of D-Bus has them.
func parseVersion(text string) (int, error) {
	digits := strings.TrimLeft(strings.Trim(text, `"`), "v")
	if end := strings.IndexFunc(digits, func(r rune) bool { return r < '0' || r > '9' }); end >= 0 {
		digits = digits[:end]
	}
	n, err := strconv.Atoi(digits)
	if err != nil {
		return 0, fmt.Errorf("the version of systemd, %s, does not begin with a number", text)
	}
	return n, nil
}
