package installer

import (
	"fmt"
	"strings"
	"time"

	"github.com/mirror-appliance/appliance/systemd"
)

// checkClock checks that the clock has not gone back: a certificate of that time has ended for
// clients whose clock is right, and a login of the future is refused.
func (s *site) checkClock() {
	const remedy = "put it right: sudo timedatectl set-time 'YYYY-MM-DD HH:MM', or a time service (chronyd) does it"
	at := func(t time.Time) string { return t.UTC().Format(time.RFC3339) }
	switch {
	case s.now.Before(s.Built.Add(-clockSlack)):
		s.problem(fmt.Sprintf("the clock of this host is behind: it shows %s, and this program was built at %s",
			at(s.now), at(s.Built)), remedy)
	case s.ahead != nil && s.ahead.ours:
		s.problem(fmt.Sprintf("the clock of this host is behind: it shows %s, and the database was written at %s",
			at(s.now), at(s.ahead.at)), remedy)
	case s.ahead != nil: // it may be a file that was copied
		s.warn(fmt.Sprintf("the clock of this host may be behind: it shows %s, and %s was written at %s",
			at(s.now), s.ahead.path, at(s.ahead.at)), remedy)
	case s.drifts:
		s.warn("no time service keeps the clock of this host in time", "certificates and logins of clusters "+
			"depend on it: sudo timedatectl set-ntp true, or chronyd with a server of your network")
	}
}

// checkSystemd checks that systemd knows what the units need, and names what it would pass over.
func (s *site) checkSystemd() {
	if s.systemd == 0 {
		return // a problem of its own
	}
	if s.systemd < systemd.Oldest {
		s.problem(fmt.Sprintf("systemd has version %d, and the units need %d or later", s.systemd, systemd.Oldest),
			"install on a newer system, such as RHEL 8 or later")
		return
	}
	if lacks := systemd.Unknown(s.systemd, s.User); len(lacks) > 0 {
		s.warn(fmt.Sprintf("systemd %d does not know %s, which would confine the service further",
			s.systemd, strings.Join(lacks, ", ")), "go on, or install on a system with systemd 247 or later")
	}
}

// checkLinger checks that a user's service can go on after log-out.
func (s *site) checkLinger() {
	if s.ends {
		s.problem(fmt.Sprintf("services of user %s end when the user logs out, and this host does not let the "+
			"user change that (lingering)", s.Host.UserName(s.Geteuid())),
			fmt.Sprintf("ask an administrator to run: sudo loginctl enable-linger %d; or install with sudo", s.Geteuid()))
	}
}
