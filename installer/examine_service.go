package installer

import (
	"context"
	"fmt"

	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// service looks at the units.
func (x *examiner) service(ctx context.Context) {
	if x.unit == nil {
		x.noUnit()
		return
	}
	if ok, err := x.Host.Exists("/run/systemd/system"); err != nil || !ok {
		x.tell(finding.Finding{Check: "unit", Level: finding.Failed, Text: "systemd is not running on this host",
			Hint: "boot the host with systemd"})
		return
	}
	manager, err := x.Connect(ctx, x.User)
	if err != nil {
		x.judge("unit", "", "", func() { x.fault(err, "see whether systemd answers: systemctl status") })
		return
	}
	defer manager.Close()
	for _, unit := range []string{systemd.Socket, systemd.Service} {
		status, err := manager.Status(ctx, unit)
		x.judge("unit", unit, "enabled and active", func() {
			if err != nil {
				x.fault(err, "see whether systemd answers: systemctl status")
				return
			}
			x.checkUnit(unit, status)
		})
	}
	if x.User {
		x.judge("lingering", x.Host.UserName(x.Geteuid()), "the service goes on when the user logs out", func() {
			if on, err := manager.Linger(ctx, x.Geteuid()); err != nil {
				x.fault(err, "")
			} else if !on {
				x.problem("the service ends when the user logs out", "loginctl enable-linger")
			}
		})
	}
	x.judge("install", x.QuayRoot, "", func() {
		if len(x.journal.Entries) > 0 && !x.journal.Done {
			x.problem("an install was interrupted and is half done", "complete it: appliance install")
		}
		x.checkRecorded()
	})
}

// checkUnit judges what systemd says of a unit.
func (x *examiner) checkUnit(unit string, s systemd.Status) {
	switch {
	case s.LoadState == "masked":
		x.problem("it is masked", x.systemctl("unmask "+unit))
		return
	case s.LoadState != "loaded":
		x.problem("systemd has not loaded it ("+s.LoadState+")", "appliance install, which writes it; "+x.systemctl("daemon-reload"))
		return
	}
	if s.UnitFileState != "enabled" {
		x.problem("it does not start at boot ("+s.UnitFileState+")", x.systemctl("enable "+unit))
	}
	switch {
	case s.ActiveState == "failed":
		x.problem("it has failed ("+s.Result+")", "see why: "+x.journalctl()+"; then "+x.systemctl("start "+unit))
	case s.ActiveState == "activating":
		x.problem("it is activating: it has not started yet, or ends again and again", "see why: "+x.journalctl())
	case s.ActiveState != "active":
		x.problem("it is "+s.ActiveState, x.systemctl("start "+unit))
	}
	if unit == systemd.Service {
		x.checkProgram()
	}
	if s.NRestarts > 0 {
		x.warn(fmt.Sprintf("it has ended and was started again by systemd, %d times", s.NRestarts),
			"see why: "+x.journalctl())
	}
	switch {
	case unit == systemd.Service && s.ActiveState == "active" && runsAnother(x.Host, x.unit.Binary, s):
		x.problem("it runs another program than "+x.unit.Binary+", which was replaced since", x.systemctl("restart appliance"))
	case unit == systemd.Socket && x.contentIs == nil:
		if cfg := x.parsed(); cfg != nil && !listensOn(x.Host, x.unitDir(), cfg.PortHere()) {
			x.problem(fmt.Sprintf("it listens on another port than the %d of config.yaml", cfg.PortHere()),
				"appliance install; or change the port back")
		}
	}
}

// parsed returns the configuration as it is on disk, nil if it cannot be used.
func (x *examiner) parsed() *config.Config {
	cfg, err := config.Parse(x.confPath(), x.content)
	if err != nil {
		return nil // a problem of its own
	}
	return cfg
}

// others looks for other registries of this host.
func (x *examiner) others() {
	x.lookAtPrograms()
	x.judge("other", "", "", func() {
		if x.quayUnit != "" {
			x.warn("a mirror-registry is installed too ("+x.quayUnit+")",
				"remove it when it is not used any more: mirror-registry uninstall")
		}
		for _, user := range []bool{x.User, !x.User} {
			found, err := find(x.Deps, user)
			if err == nil && found.Config != x.confPath() {
				x.warn("another appliance is installed too, in "+found.QuayRoot,
					"look at that one with --quayRoot "+found.QuayRoot)
			}
		}
	})
}

// system looks at what of the host is in the way of a registry.
func (x *examiner) system(ctx context.Context) {
	x.lookAtClock()
	x.judge("clock", "", "it is kept in time", x.checkClock)
	if x.lookAtSELinux(); x.selinux != "" && x.unit != nil {
		x.judge("selinux", "", x.selinux+", and the labels are right", x.checkSELinux, x.checkLabels)
	}
	if x.lookAtFirewall(ctx); x.firewalled {
		x.judge("firewall", "firewalld", fmt.Sprintf("port %d is open", x.cfg.PortHere()), func() { x.checkFirewall("") })
	}
}
