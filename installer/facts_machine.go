package installer

import (
	"time"

	"golang.org/x/sys/unix"
)

// machine is what a preflight needs to know of the host itself.
type machine struct {
	now     time.Time
	drifts  bool       // no time service keeps the clock in time
	ahead   *timedFile // which the clock is behind; nil: none
	systemd int        // its version; 0: not known
	ends    bool       // this user's services end at log-out, and the user may not change that
	selinux string     // enforcing or permissive; empty: it is off
	labels  bool       // there are programs that label files
}

// timedFile is a file, and when it was written.
type timedFile struct {
	path string
	ours bool // the appliance has written it
	at   time.Time
}

// clock returns the time, and whether a time service keeps it.
type clock func() (now time.Time, kept bool)

func readClock() (time.Time, bool) {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	unkept := err == nil && (state == unix.TIME_ERROR || t.Status&unix.STA_UNSYNC != 0)
	return time.Now(), !unkept
}

// clockSlack is how far a file may seem to come from the future.
const clockSlack = 5 * time.Minute

// lookAtClock compares the clock with files that hosts write at boot, at shutdown and in between.
// A clock that a dead battery has set back is behind them.
func (s *site) lookAtClock() {
	files := []timedFile{
		{path: "/var/lib/systemd/random-seed"}, {path: "/var/lib/systemd/timesync/clock"},
		{path: "/var/log/wtmp"}, {path: "/etc/machine-id"},
	}
	if s.cfg != nil {
		files = append([]timedFile{{path: s.cfg.Database, ours: true}}, files...)
	}
	for _, f := range files {
		info, err := s.Host.StatTarget(f.path)
		if f.at = info.Time; err == nil && f.at.After(s.now.Add(clockSlack)) {
			s.ahead = &f
			return
		}
	}
}
