package installer

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/internal/finding"
	"github.com/mirror-appliance/appliance/internal/hint"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/tlsgen"
)

// Examination is what Examine looks at.
type Examination struct {
	File, QuayRoot string // which appliance, see Locate
	ConfigOnly     bool   // config.yaml and what it names, not the service
	Offline        bool   // neither names nor ports

	// Waits reports whether the start of the daemon waits for a server: the port is not looked at then. nil: it is.
	Waits func(context.Context, *Identity) bool
}

// examiner judges an install with the checks that an install begins with, and more.
type examiner struct {
	*site
	of    Examination
	id    *Identity
	tell  func(finding.Finding)
	early []Problem // of looking
}

// Examine looks at an appliance of this host and tells what it finds, good or bad; it changes
// nothing. It returns the identity with which the daemon can be asked, nil if the configuration
// cannot be used. The error is that there is no appliance.
func Examine(ctx context.Context, d Deps, e Examination, tell func(finding.Finding)) (*Identity, error) {
	d, err := d.complete()
	if err != nil {
		return nil, err
	}
	path, err := locate(d, e.File, e.QuayRoot)
	if err == nil {
		path, err = filepath.Abs(path)
	}
	if err != nil {
		return nil, err
	}
	user := d.Geteuid() != 0
	unit, err := find(d, user)
	if err != nil && !isNotInstalled(err) {
		tell(finding.Finding{Check: "unit", Level: finding.Failed, Text: err.Error(), Hint: hint.Of(err)})
	}
	root := filepath.Dir(filepath.Dir(path))
	switch {
	case unit == nil || unit.Config == path:
	case e.ConfigOnly && config.Path(root) != path: // what is to become the installed one's
		root = unit.QuayRoot
	default:
		unit = nil
	}
	s, err := newSite(Request{QuayRoot: root, User: user || unit == nil}, d)
	if err != nil {
		return nil, err
	}
	s.unit, s.confFile = unit, path
	x := &examiner{site: s, of: e, tell: tell}
	x.look()
	if x.content, x.contentIs = d.Host.ReadFile(path); notThere(x.contentIs) && (unit == nil || e.ConfigOnly) {
		return nil, absent(path, e.File, e.QuayRoot)
	}
	if errors.Is(x.contentIs, fs.ErrPermission) && user {
		x.fault(x.contentIs, "")
	}
	x.early = x.problems
	if x.denied { // what follows would judge the rights of this user as if they were the service's
		x.judge("config", path, "", func() { x.problems = x.early })
		return nil, ctx.Err()
	}
	return x.all(ctx)
}

func (x *examiner) all(ctx context.Context) (*Identity, error) {
	if !x.of.ConfigOnly {
		x.service(ctx)
		x.others()
	}
	if !x.configuration() {
		return nil, ctx.Err()
	}
	if !x.of.Offline {
		x.network(ctx)
	}
	x.judge("certificate", x.cfg.Hostname, x.certificateText(), x.wantCertificates, x.checkLeaf, x.checkSecrets)
	x.judge("files", "", "what config.yaml names is there, and the service may read it",
		x.checkNamed, x.checkSeen)
	x.judge("directories", x.QuayRoot, "they exist, with their owners", x.checkDirectories)
	if !x.of.ConfigOnly {
		x.puller(ctx)
		x.space()
		x.system(ctx)
	}
	return x.id, ctx.Err()
}

// judge runs checks of one kind and tells their problems or, without any, that all is well.
func (x *examiner) judge(check, subject, well string, checks ...func()) {
	x.problems = nil
	for _, c := range checks {
		c()
	}
	for _, p := range x.problems {
		level := finding.Failed
		if p.Warning {
			level = finding.Warning
		}
		x.tell(finding.Finding{Check: check, Subject: subject, Level: level, Text: p.What, Hint: p.Remedy})
	}
	if len(x.problems) == 0 && well != "" {
		x.tell(finding.Finding{Check: check, Subject: subject, Level: finding.OK, Text: well})
	}
}

// configuration reads config.yaml, and reports whether it can be used.
func (x *examiner) configuration() bool {
	x.judge("config", x.confPath(), "it can be used, and no other user can change it", func() {
		x.problems = x.early
		if x.isQuay() {
			x.problem("it is the configuration of a mirror-registry (Quay)", "name another --config or --quayRoot")
			return
		}
		if notThere(x.contentIs) {
			x.problem("it does not exist", "put it back; or have it written anew: appliance install --quayHostname HOST:PORT, with the same directories")
			return
		}
		if x.contentIs == nil {
			for _, err := range config.Problems(x.confPath(), x.content) {
				x.fault(err, "correct the file")
			}
		}
		if len(x.problems) > len(x.early) {
			return
		}
		x.wantConfig() // tells why there is no content
		if x.cfg == nil {
			return
		}
		x.lookAtPlaces()
		x.nameplaces()
		x.lookAtCertificates()
		var err error
		if x.id, err = identify(x.Deps, x.confPath()); err != nil {
			x.fault(err, "run the command as the owner of the configuration")
		} else if !x.id.Sole {
			x.checkChanger()
		}
		x.checkRead()
	})
	return x.cfg != nil
}

// nameplaces names the directories by what they are: no flag is given here.
func (x *examiner) nameplaces() {
	x.dirs.root.name, x.dirs.storage.name, x.dirs.database.name =
		"the install directory", "the directory of the blobs", "the database's directory"
}

// network looks at what clients need to reach the registry.
func (x *examiner) network(ctx context.Context) {
	x.lookAtNetwork(ctx)
	x.judge("name", x.cfg.Hostname, "it resolves to this host", func() {
		x.checkHostname(x.cfg.Hostname)
		x.checkResolution()
	})
	x.redirect(ctx)
	address := x.cfg.Address()
	if x.of.ConfigOnly {
		x.judge("port", address, "it is free, or this appliance's", x.checkPort, func() {
			if x.unit == nil && x.answers(ctx) || x.unit != nil && listensOn(x.Host, x.unitDir(), x.cfg.PortHere()) {
				return
			}
			x.checkPortFree()
		})
		return
	}
	if x.of.Waits != nil && x.of.Waits(ctx, x.id) {
		return
	}
	x.judge("port", address, "it answers by its name, and is healthy", x.checkPort, func() { x.checkReach(ctx) })
}

// redirect looks at the storage that clients are redirected to. Whether all of them reach it cannot be
// seen from this host, and is told.
func (x *examiner) redirect(ctx context.Context) {
	to, err := x.cfg.Redirect()
	if to == nil || err != nil { // which is one of the configuration
		return
	}
	host := to.Endpoint.Hostname()
	x.judge("redirect", to.Endpoint.Host, "clients get blobs from there: each must reach it, and trust its certificate", func() {
		const leaveOut = "name an endpoint in `storage:` that all clients reach, or leave storageRedirect out of config.yaml"
		addresses, err := x.Resolver.LookupNetIP(ctx, "ip", host)
		if err != nil {
			x.problem("clients are redirected to it for blobs, and its name does not resolve here: "+err.Error(), leaveOut)
			return
		}
		for _, a := range addresses {
			if a = a.Unmap(); a.IsLoopback() || a.IsLinkLocalUnicast() || a.IsUnspecified() {
				x.problem(fmt.Sprintf("clients are redirected to it for blobs, and other hosts do not reach its address %s", a), leaveOut)
				return
			}
		}
	})
}

// answers reports whether the port has an appliance with the certificate of this one.
func (x *examiner) answers(ctx context.Context) bool {
	var unwell *unwellError
	err := x.Health(ctx, x.cfg)
	return err == nil || errors.As(err, &unwell)
}

// checkReach asks the registry as a client does, by its name, and if that fails as no client does.
func (x *examiner) checkReach(ctx context.Context) {
	here := x.Health(ctx, x.cfg)
	var unwell *unwellError
	switch {
	case errors.As(here, &unwell):
		x.problem(here.Error(), "appliance status says more")
		return
	case here != nil && x.listener == nil:
		x.problem("nothing listens on the port", x.ofUnit("see why: "+x.systemctl("status appliance.socket appliance"), "start its daemon, which no unit does"))
		return
	case here != nil:
		x.problem("it gives no answer on this host: "+here.Error(), x.ofUnit("see why: "+x.journalctl(), "see the log of its daemon"))
		return
	}
	if x.lookupErr != nil {
		return // a problem of the name
	}
	err := x.Reach(ctx, x.cfg)
	if err != nil && !errors.As(err, &unwell) {
		x.problem("it answers on this host, and not by its name: "+err.Error(), "a firewall, a proxy or a load "+
			"balancer stands in between, or the name leads to another host: getent hosts "+x.cfg.Hostname)
	}
}

// checkLeaf judges the times of the certificate on disk; the daemon tells what ends soon.
func (x *examiner) checkLeaf() {
	if x.cfg.TLS.CAKey == "" {
		own, err := tlsgen.ReadOwn(x.ownFile(), x.Host.Path(x.cfg.TLS.Key))
		if err != nil {
			return // a problem already
		}
		if err := own.CheckTime(x.now); err != nil {
			x.fault(err, "replace the files")
		}
		if err := own.CheckName(x.cfg.Hostname); err != nil { // served all the same, see --sslCheckSkip
			x.warn(err.Error(), tlsgen.Misnamed)
		}
		return
	}
	leaf := x.files.pair.Leaf
	if leaf == nil {
		return
	}
	if x.now.After(leaf.NotAfter) {
		x.problem(fmt.Sprintf("the certificate in %s expired at %s", x.cfg.TLS.Certificate,
			leaf.NotAfter.Format(time.RFC3339)), "check the clock; replace the files if they are yours, otherwise: "+
			x.ofUnit(x.systemctl("restart appliance"), "restart its daemon"))
	}
	if err := leaf.VerifyHostname(x.cfg.Hostname); err != nil {
		x.problem(fmt.Sprintf("the certificate in %s is not for %s: %v", x.cfg.TLS.Certificate, x.cfg.Hostname, err),
			"run appliance install again, or put in a certificate for that name")
	}
}

func (x *examiner) certificateText() string {
	if x.files.pair.Leaf == nil {
		return "its files are as they should be"
	}
	text := "for this name, until " + x.files.pair.Leaf.NotAfter.Local().Format(time.DateOnly)
	if x.cfg.TLS.CAKey == "" {
		return text
	}
	return text + ", renews by itself"
}

// checkSecrets checks that other users of the host cannot read keys and passwords.
func (x *examiner) checkSecrets() {
	secret := []string{x.cfg.TLS.Key, x.cfg.TLS.CAKey, x.pullSecret()}
	for _, f := range x.named() {
		if f.secret {
			secret = append(secret, f.path)
		}
	}
	for _, path := range secret {
		info, err := x.Host.StatTarget(path)
		if path != "" && err == nil && info.Mode.Perm()&0o007 != 0 {
			x.problem(fmt.Sprintf("each user of this host may read %s (mode %04o)", path, info.Mode.Perm()),
				"chmod o-rwx "+path)
		}
	}
}

// checkDirectories checks the directories that the registry writes to.
func (x *examiner) checkDirectories() {
	d := x.dirs
	for _, p := range slices.Concat([]place{d.root}, x.halves(), d.own) {
		if x.unit != nil {
			x.checkPlace(p)
		} else if info, err := x.Host.StatTarget(p.path); err != nil || info.Mode.IsDir() {
			x.checkWritable(p)
		}
		x.checkOwners(p)
		if ok, err := x.Host.Exists(p.path); err == nil && !ok && !x.of.ConfigOnly {
			x.problem(fmt.Sprintf("%s %s does not exist", p.name, p.path),
				lostStore)
		}
		if !x.User {
			x.checkPassable(p)
		}
	}
	if !x.onServer() {
		x.checkLocalDisk(d.database)
	}
	x.checkApart()
	x.checkStored()
	if x.unit != nil {
		x.checkExecutes(d.bin)
		x.checkAbove()
	}
	if x.id != nil {
		if err := x.id.CheckStore(); err != nil && !errors.Is(err, fs.ErrNotExist) {
			x.fault(err, "give the directories to the service's user")
		}
	}
}

// space tells how much of the file systems is free, and fails below what pushes leave free.
func (x *examiner) space() {
	for _, p := range x.halves() {
		if p.fs.Bsize <= 0 {
			continue
		}
		free, kept := x.free(p.ground)
		text := fmt.Sprintf("%d MiB free", free>>20)
		if p.fs.Files > 0 {
			text += fmt.Sprintf(", %d of %d inodes", p.fs.Ffree, p.fs.Files)
		}
		x.judge("space", p.path, text, func() {
			if free < kept {
				x.problem(fmt.Sprintf("%d MiB free, less than the %d MiB that pushes leave free: they are refused", free>>20, kept>>20),
					"appliance gc; delete images; or enlarge the file system")
			}
			if p.fs.Files > 0 && p.fs.Ffree < p.fs.Files/100 {
				x.problem(fmt.Sprintf("%d of %d inodes free", p.fs.Ffree, p.fs.Files),
					"appliance gc; delete images; or make the file system anew with more inodes")
			}
		})
	}
}

// registryUser returns the user that the registry runs as.
func (x *examiner) registryUser() host.Owner {
	if x.id == nil {
		return host.Owner{UID: x.Geteuid(), GID: -1}
	}
	return host.Owner{UID: x.id.UID, GID: x.id.GID}
}

// ofUnit returns what to do where a unit runs the daemon, or by hand where none does: root has no unit of a user then,
// nor need the host have systemd.
func (x *examiner) ofUnit(unit, byHand string) string {
	if x.unit == nil {
		return byHand
	}
	return unit
}

// systemctl returns a command of systemctl for the unit of this install.
func (x *examiner) systemctl(args string) string {
	if x.User {
		return "systemctl --user " + args
	}
	return "sudo systemctl " + args
}

func (x *examiner) journalctl() string {
	if x.User {
		return "journalctl --user -u appliance"
	}
	return "sudo journalctl -u appliance"
}
