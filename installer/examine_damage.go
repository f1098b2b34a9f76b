package installer

import (
	"context"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/systemd"
)

// Checks of what an install has made and something has taken away since.

// lostUnit returns the unit of the service that the record has, "" without one.
func (x *examiner) lostUnit() string {
	if x.record == nil {
		return ""
	}
	for _, e := range x.record.entries {
		if f, ok := e.Step.(*host.File); ok && filepath.Base(f.Path) == systemd.Service {
			return f.Path
		}
	}
	return ""
}

// checkRecorded checks that an uninstall will know what the install has done.
func (x *examiner) checkRecorded() {
	path := recordPath(x.QuayRoot)
	if ok, err := x.Host.Exists(path); err == nil && !ok {
		x.warn(path+", which has what the install has done, does not exist: an uninstall would go by where things are by default",
			"put it back from a backup; or have it written anew, without what was there before: appliance install")
	}
}

// noUnit tells that no unit runs this appliance.
func (x *examiner) noUnit() {
	if lost := x.lostUnit(); lost != "" {
		x.tell(finding.Finding{Check: "unit", Subject: systemd.Service, Level: finding.Failed,
			Text: lost + ", which the install wrote, does not exist", Hint: "have it written anew: appliance install"})
		return
	}
	x.tell(finding.Finding{Check: "unit", Level: finding.Warning,
		Text: "this appliance is not installed as a service: its daemon is started by something else",
		Hint: "to have one that starts at boot: appliance install"})
}

// checkProgram checks that systemd can start the program of the unit.
func (x *examiner) checkProgram() {
	path := x.unit.Binary
	switch info, err := x.Host.StatTarget(path); {
	case notThere(err):
		x.problem("its program "+path+" does not exist", "have it copied there again: appliance install")
	case err == nil && (!info.Mode.IsRegular() || info.Mode.Perm()&0o100 == 0 || !x.User && info.Mode.Perm()&0o001 == 0):
		x.problem(fmt.Sprintf("its program %s cannot be executed (mode %04o)", path, info.Mode.Perm()),
			"chmod 755 "+path+", and "+x.systemctl("restart appliance"))
	}
}

// puller looks at the login of the nodes, which install keeps in a file.
func (x *examiner) puller(ctx context.Context) {
	if x.unit == nil || x.record != nil && x.record.Puller == adoptedPuller {
		return
	}
	x.judge("login", PullerUser, "", func() {
		file, remedy := x.pullSecret(), "have a new login made, and give it to the clusters: appliance install"
		if have, err := x.Foresee(ctx, Installation{Config: x.cfg, QuayRoot: x.QuayRoot, Owner: x.unit.User}); err == nil && have.role != "" {
			x.warn("the user "+PullerUser+", whose login nodes have, may do more than pull (role "+have.role+"), and install leaves it alone",
				"if that is not intended: appliance user role "+PullerUser+" pull")
			remedy = "give it the role of nodes again, then have a new login made: appliance user role " + PullerUser + " pull; appliance install"
		}
		login, err := readSecret(x.Host, x.QuayRoot, x.cfg)
		if notThere(err) {
			x.warn(file+", which the install wrote, does not exist", remedy)
		}
		if err != nil || x.Health(ctx, x.cfg) != nil {
			return // this user may not read it, or the daemon has a problem of its own
		}
		if right, err := x.Login(ctx, x.cfg, login); err == nil && !right {
			x.problem("the registry refuses the login in "+file+": the user was removed, or has another password", remedy)
		}
	})
}

// checkRead checks that the service may read config.yaml: it does when it is started the next time.
func (x *examiner) checkRead() {
	if x.unit == nil || x.User || x.id == nil {
		return
	}
	user := x.registryUser()
	for _, f := range []struct {
		path, mode string
		need       fs.FileMode
	}{{x.confDir(), "750", 0o1}, {x.confPath(), "640", 0o4}} {
		info, err := x.Host.StatTarget(f.path)
		if err != nil || allowed(info, user, f.need) {
			continue
		}
		name := x.Host.UserName(user.UID)
		x.problem(fmt.Sprintf("the service's user %s may not read %s (mode %04o), and cannot start again", name, f.path,
			info.Mode.Perm()), fmt.Sprintf("chown root:%s %s && chmod %s %[2]s", name, f.path, f.mode))
		return
	}
}

// checkChanger warns of another user who can change the configuration.
func (x *examiner) checkChanger() {
	if x.id.Changer >= 0 {
		x.warn(fmt.Sprintf("user %s can change it, and so decides what root's commands act on",
			x.Host.UserName(x.id.Changer)), "run appliance install again, which makes it root's; or chown it")
		return
	}
	path := x.confPath()
	if other, err := x.Host.Other(path); err == nil && other != nil {
		path = other.Path
	}
	x.warn(fmt.Sprintf("by the mode of %s, other users can change it, and so decide what root's commands act on", path),
		"chmod go-w "+path)
}

// checkStored checks that the directories are those of a store, and that neither half of it is lost.
func (x *examiner) checkStored() {
	whole := len(x.halves()) == 2
	if there, err := x.Host.Exists(x.cfg.Storage); whole && err == nil && there && !x.of.ConfigOnly && x.checkHalves(x.cfg.Storage, x.cfg.Database) {
		return
	}
	for _, p := range x.halves() {
		x.checkAlone(p, "move them elsewhere")
	}
}
