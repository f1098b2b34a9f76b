package installer

import (
	"bytes"
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/mirror-appliance/appliance/ansible-free/host"
	"github.com/mirror-appliance/appliance/registry/config"
	"github.com/mirror-appliance/appliance/systemd"
)

// PlanInstall looks at the host and says what an install is going to do. It returns *PreflightError when
// something is in the way; warnings alone are in the plan.
func PlanInstall(ctx context.Context, r Request, d Deps) (*Plan, error) {
	t, err := resolve(ctx, r, d)
	if err != nil {
		return nil, err
	}
	problems, err := t.preflight(ctx)
	if err != nil {
		return nil, err
	}
	if fatal := slices.DeleteFunc(slices.Clone(problems), isWarning); len(fatal) > 0 {
		return nil, &PreflightError{Problems: fatal}
	}
	plan := &Plan{
		Warnings: problems,
		undo:     true,
		bus:      t.bus(),
		result: Result{
			Address: t.cfg.Address(), QuayRoot: t.QuayRoot, CA: t.cfg.TLS.CA, InitUser: t.InitUser, InitPassword: t.InitPassword,
		},
	}
	b := &builder{target: t, plan: plan, record: t.newRecord()}
	if err := b.install(); err != nil {
		return nil, err
	}
	return plan, nil
}

// builder collects the steps of an install.
type builder struct {
	*target
	plan   *Plan
	record *record
	made   map[string]bool // directories that a step makes
	stale  []*tracked      // what the running daemon has read
}

func (b *builder) add(s Step) { b.plan.Steps = append(b.plan.Steps, s) }

// addTracked is add for what a running daemon would have to be restarted for.
func (b *builder) addTracked(s Step) *tracked {
	t := &tracked{Step: s}
	b.stale = append(b.stale, t)
	b.add(t)
	return t
}

func (b *builder) install() error {
	b.made = make(map[string]bool)
	b.add(&guard{bus: b.plan.bus})
	recorded := &host.File{Host: b.Host, Path: recordPath(b.QuayRoot), Mode: 0o600, Owner: b.admin}
	b.takeRoot()
	for _, step := range []func() error{
		func() error { return b.directory(b.QuayRoot, 0o755, b.admin, keep) },
		// Its group's once there is one: the record has to tell whether the service's user was there before.
		func() error { return b.directory(filepath.Dir(recorded.Path), 0o750, b.admin, keep|whole) },
		func() error { b.add(recorded); return nil },
		b.serviceUser,
		b.directories,
		b.files,
		b.executable,
		b.units,
		b.running,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	recorded.Content = b.record.marshal() // complete only now
	return nil
}

// Ways of making a directory.
type dirFlags int

const (
	keep  dirFlags = 1 << iota // leave an existing one as it is
	whole                      // undo removes what it holds, too
)

// directory adds steps for path and for those of its parents that are missing, and records what is new.
func (b *builder) directory(path string, mode fs.FileMode, owner string, flags dirFlags) error {
	missing, err := b.Host.Missing(path)
	if err != nil {
		return err
	}
	for _, dir := range missing {
		if b.made[dir] {
			continue
		}
		b.made[dir] = true
		b.record.Created = append(b.record.Created, dir)
		if dir != path {
			b.add(&host.Dir{Host: b.Host, Path: dir, Mode: b.mode(0o755, 0o700), Owner: b.admin, Keep: true})
		}
	}
	if len(missing) == 0 && flags&keep == 0 {
		if err := b.record.remember(b.Host, path); err != nil {
			return err
		}
	}
	b.add(&host.Dir{Host: b.Host, Path: path, Mode: mode, Owner: owner, Keep: flags&keep != 0, Whole: flags&whole != 0})
	return nil
}

// sysusers says in sysusers.d(5) that the service has a user, without a home and without a login.
const sysusers = `# Written by the appliance's installer: the user that its service runs as.
u ` + serviceUser + ` - "Mirror appliance"
`

func (b *builder) serviceUser() error {
	if b.User {
		return nil
	}
	if err := b.directory(filepath.Dir(sysusersFile), 0o755, b.admin, keep); err != nil {
		return err
	}
	b.add(&host.File{Host: b.Host, Path: sysusersFile, Content: []byte(sysusers), Mode: 0o644, Owner: b.admin})
	b.add(&host.SystemUser{Host: b.Host, Name: serviceUser, File: sysusersFile})
	return nil
}

// serviceDir is a directory of the running service.
type serviceDir struct {
	path     string
	mode     fs.FileMode
	readOnly bool // the service does not write to it
	closed   bool // and no other goroutine reads it
}

func (t *target) serviceDirs() []serviceDir {
	dirs := []serviceDir{
		{path: filepath.Dir(config.Path(t.QuayRoot)), mode: 0o750, readOnly: true, closed: true},
		{path: t.cfg.Storage, mode: 0o750},
		{path: t.databaseDir(), mode: 0o700},
		{path: filepath.Dir(t.cfg.ControlSocket), mode: 0o700},
	}
	if t.cfg.TLS.State != "" {
		dirs = append(dirs, serviceDir{path: t.cfg.TLS.State, mode: 0o700})
	}
	if t.cfg.TLS.CAKey != "" {
		// rootCA.pem is for everyone to copy, so its directory is open; nobody but root can exchange it.
		dirs = append(dirs, serviceDir{path: filepath.Dir(t.cfg.TLS.CA), mode: 0o755, readOnly: true})
	}
	return dirs
}

func (b *builder) directories() error {
	var dirs []string
	for _, d := range b.serviceDirs() {
		owner, flags := b.owner, whole
		if d.readOnly {
			if owner = b.admin; d.closed {
				owner = b.reader()
			}
			if !within(d.path, b.QuayRoot) {
				flags = keep // the user's own CA lies where it did
			}
		} else if !b.User {
			b.add(&host.Own{Host: b.Host, Path: d.path, User: b.owner}) // content from another host or account
		}
		if err := b.directory(d.path, d.mode, owner, flags); err != nil {
			return err
		}
		dirs = append(dirs, d.path)
	}
	b.add(&fresh{host: b.Host, database: b.cfg.Database, dirs: dirs})
	return nil
}

// files adds the certificates and config.yaml. A file that exists keeps its content.
func (b *builder) files() error {
	conf := certificateFile{path: config.Path(b.QuayRoot), mode: 0o640, owner: b.reader()}
	switch {
	case !b.kept:
		var err error
		if conf.content, err = b.cfg.Marshal(); err != nil {
			return err
		}
	case b.changer != nil || !bytes.Equal(b.text, b.written):
		conf.content = b.text // what has been looked at
	}
	for _, f := range append(b.certificateFiles(), conf) {
		switch {
		case f.content != nil:
			b.addTracked(&host.File{Host: b.Host, Path: f.path, Content: f.content, Mode: f.mode, Owner: f.owner})
		case f.path == conf.path || b.target.made(f.path):
			b.add(&host.Attr{Host: b.Host, Path: f.path, Mode: f.mode, Owner: f.owner})
		}
	}
	for _, l := range b.leafLinks() {
		b.add(&host.Link{Host: b.Host, Path: l.path, Target: l.target})
	}
	if secret := filepath.Join(filepath.Dir(conf.path), pullSecretName); b.changer != nil && b.has(secret) {
		b.add(&host.Attr{Host: b.Host, Path: secret, Mode: 0o600, Owner: b.admin})
	}
	if b.certs.oldKey != "" { // after config.yaml, which names the new one
		b.add(&host.Remove{Host: b.Host, Path: b.certs.oldKey})
	}
	return nil
}

func (b *builder) executable() error {
	if err := b.directory(filepath.Dir(b.binary), 0o755, b.admin, keep); err != nil {
		return err
	}
	b.addTracked(&host.Binary{Host: b.Host, Source: b.Binary, Path: b.binary, Owner: b.admin})
	return nil
}

func (b *builder) units() error {
	if err := b.directory(b.unitDir(b.User), b.mode(0o755, 0o700), b.admin, keep); err != nil {
		return err
	}
	service := systemd.ServiceOptions{
		Binary: b.binary, Config: config.Path(b.QuayRoot), UserUnit: b.User, User: b.owner,
		DataDirs: []string{b.QuayRoot}, Ways: b.Host.Ways,
	}
	held := func(dir string) bool { // and no link leads out of it
		return slices.ContainsFunc(service.DataDirs, func(d string) bool {
			return within(dir, d) && within(b.Host.Real(dir), b.Host.Real(d))
		})
	}
	for _, d := range b.serviceDirs() {
		if !d.readOnly && !held(d.path) {
			service.DataDirs = append(service.DataDirs, d.path)
		}
	}
	for _, dir := range b.readDirs() {
		if !held(dir) {
			service.ReadDirs = append(service.ReadDirs, dir)
		}
	}
	b.addTracked(b.unitFile(systemd.Service, systemd.ServiceUnit(service)))
	return nil
}

func (b *builder) unitFile(name string, content []byte) *host.File {
	return &host.File{Host: b.Host, Path: b.unit(name), Content: content, Mode: 0o644, Owner: b.admin}
}

// readDirs are the directories of the files that an edited configuration names.
func (t *target) readDirs() []string {
	files := []string{t.cfg.TLS.Certificate, t.cfg.TLS.Key, t.cfg.TLS.CA, t.cfg.TLS.CAKey}
	for _, u := range t.cfg.Upstreams {
		files = append(files, u.CA, u.AuthFile)
	}
	var dirs []string
	for _, f := range files {
		if dir := filepath.Dir(f); f != "" && !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

const (
	healthLimit = 60 * time.Second
	healthEvery = 250 * time.Millisecond
)

// running adds what makes the daemon run, and the users in it.
func (b *builder) running() error {
	socket := &tracked{Step: b.unitFile(systemd.Socket, systemd.SocketUnit(b.cfg.Port))}
	b.add(socket)
	b.add(&reload{b.plan.bus})
	if b.User {
		b.add(&linger{bus: b.plan.bus, uid: b.Geteuid()})
	}
	b.add(&enable{bus: b.plan.bus})
	b.add(&start{bus: b.plan.bus, host: b.Host, user: b.User, binary: b.binary, stale: b.stale, socket: socket, renamed: b.renamed})
	b.add(&health{bus: b.plan.bus, host: b.Host, user: b.User, cfg: b.cfg, check: b.Health, limit: healthLimit, every: healthEvery})
	b.plan.seeded = &seed{do: b.Seed, in: Installation{
		Config: b.cfg, QuayRoot: b.QuayRoot, Owner: b.owner, InitUser: b.InitUser, InitPassword: b.InitPassword, Generated: b.generated,
	}}
	b.add(b.plan.seeded)
	return nil
}

// newRecord is what an uninstall will have to know.
func (t *target) newRecord() *record {
	r := &record{Version: recordVersion, Storage: t.cfg.Storage, Database: t.databaseDir(), File: filepath.Base(t.cfg.Database), Owner: t.owner}
	for _, f := range t.certificateFiles() {
		if f.content != nil || t.made(f.path) {
			r.Files = append(r.Files, f.path)
		}
	}
	r.Lingering = t.User && !t.lingering
	if !t.User {
		_, err := t.Host.User(serviceUser)
		r.User = err != nil
	}
	r.Binary = t.binary
	if sameFile(t.Binary, t.Host.Path(t.binary)) && (t.record == nil || t.record.Binary == "") {
		r.Binary = "" // the user put it there, and keeps it
	}
	for _, l := range t.leafLinks() {
		r.Files = append(r.Files, l.path)
	}
	r.merge(t.record)
	r.merge(t.legacyRecord())
	return r
}
